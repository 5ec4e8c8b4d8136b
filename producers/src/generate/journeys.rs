//! What people do in the shop, and what happens behind it.

use super::operation::{
    Operation, Severity, consume, consume_batch, http, job, outside, page, publish, redis, rpc, sql, within,
};
use super::services::Service::{
    Accounting, Ad, Cart, Catalog, Checkout, Currency, Email, Fraud, Inventory, Payment, Recommendation, Shipping,
};
use super::template::Number;

/// A kind of trace.
#[derive(Clone, Debug)]
pub(super) struct Journey {
    /// How often it happens, in proportion to the others.
    pub(super) weight: u32,
    /// What the browser's vendor put into the header `tracestate`.
    pub(super) trace_state: &'static str,
    pub(super) root: Operation,
}

/// Orders that the accounting takes at once.
pub(super) const BATCH: usize = 8;

/// The topic whose messages the accounting takes in batches.
pub(super) const ORDERS: &str = "orders";

/// Every kind of trace that begins by itself.
pub(super) fn journeys() -> Vec<Journey> {
    let journey = |weight, root| Journey { weight, trace_state: "", root };
    vec![
        journey(22, home()),
        journey(32, product()),
        journey(2, missing_product()),
        journey(8, search()),
        journey(14, add_to_cart()),
        journey(10, view_cart()),
        Journey { weight: 9, trace_state: "shop=mobile,vendor=t61rcWkgMzE", root: checkout() },
        journey(2, restock()),
    ]
}

/// What happens once enough orders wait.
pub(super) fn settlement() -> Journey {
    let insert = "INSERT INTO ledger (order_id, account, amount, currency, booked_at) VALUES ($1, $2, $3, $4, $5)";
    let root = consume_batch(Accounting, ORDERS, BATCH, 2_500)
        .calls([
            sql("BEGIN", "ledger", "BEGIN", 200),
            sql("INSERT", "ledger", insert, 1_400).up_to(8).tailed(),
            sql("COMMIT", "ledger", "COMMIT", 3_000).fails(
                0.01,
                "Npgsql.PostgresException",
                "40P01: deadlock detected",
            ),
        ])
        .says(Severity::Info, 1.0, "booked a batch of orders");
    Journey { weight: 0, trace_state: "", root }
}

fn home() -> Operation {
    page("GET", "/", "/", 200, 2_800)
        .says(Severity::Info, 1.0, "GET / 200 session={session}")
        .calls_at_once([
            rpc(Catalog, "shop.catalog.v1.CatalogService/ListProducts", 700).calls([list_products()]).says(
                Severity::Debug,
                0.3,
                "listed 30 featured products",
            ),
            recommendations(),
            ads(),
            rpc(Cart, "shop.cart.v1.CartService/GetCart", 300).with("app.user.id", "{user}").calls([redis(
                "HGETALL",
                "cart:{user}",
                450,
            )
            .tailed()]),
        ])
        .recovers()
}

fn product() -> Operation {
    page("GET", "/api/products/{productId}", "/api/products/{product}", 200, 1_900)
        .with("app.product.id", "{product}")
        .says(Severity::Info, 1.0, "GET /api/products/{product} 200 session={session}")
        .calls([get_product()])
        .calls([convert(), recommendations().in_share(0.8), ads().in_share(0.5), within("renderProduct", 1_200)])
        .recovers()
}

fn missing_product() -> Operation {
    let find = sql("SELECT", "products", "SELECT id, name, price FROM products WHERE sku = $1", 600);
    page("GET", "/api/products/{productId}", "/api/products/{product}-old", 404, 1_100)
        .calls([rpc(Catalog, "shop.catalog.v1.CatalogService/FindRetired", 300).calls([find]).says(
            Severity::Warn,
            1.0,
            "product {product}-old was asked for but is not sold any more",
        )])
        .says(Severity::Warn, 1.0, "GET /api/products/{product}-old 404 session={session}")
}

fn search() -> Operation {
    let query = "SELECT id, name, price FROM products WHERE tsv @@ plainto_tsquery($1) ORDER BY rank LIMIT 50";
    page("GET", "/api/search", "/api/search", 200, 1_500)
        .with("url.query", "q=telescope&sort=price&user={user}")
        .calls([rpc(Catalog, "shop.catalog.v1.CatalogService/SearchProducts", 900)
            .calls([sql("SELECT", "products", query, 9_000).tailed()])
            .fails(0.01, "*pq.Error", "canceling statement due to statement timeout")
            .says(Severity::Debug, 0.3, "search q=telescope user={user} used index products_tsv_idx")])
        .says(Severity::Info, 1.0, "GET /api/search 200 session={session}")
}

fn add_to_cart() -> Operation {
    page("POST", "/api/cart", "/api/cart", 200, 1_600)
        .with("app.product.id", "{product}")
        .calls([
            get_product(),
            rpc(Cart, "shop.cart.v1.CartService/AddItem", 500)
                .with("app.user.id", "{user}")
                .with("app.product.id", "{product}")
                .with("app.product.quantity", Number::Rows)
                .calls([
                    redis("HSET", "cart:{user} {product} ?", 420).tailed(),
                    redis("EXPIRE", "cart:{user} 86400", 250),
                ])
                .fails(0.004, "StackExchange.Redis.RedisTimeoutException", "timeout awaiting response (outbound=0KiB)")
                .says(Severity::Info, 0.8, "user {user} put {product} into the cart"),
        ])
        .says(Severity::Info, 1.0, "POST /api/cart 200 session={session}")
}

fn view_cart() -> Operation {
    page("GET", "/api/cart", "/api/cart", 200, 1_700)
        .calls([
            rpc(Cart, "shop.cart.v1.CartService/GetCart", 300).with("app.user.id", "{user}").calls([redis(
                "HGETALL",
                "cart:{user}",
                450,
            )
            .tailed()]),
            get_product().up_to(4),
            convert(),
            quote(),
        ])
        .says(Severity::Info, 1.0, "GET /api/cart 200 session={session}")
}

fn checkout() -> Operation {
    page("POST", "/api/checkout", "/api/checkout", 200, 2_400)
        .with("app.order.id", "{order}")
        .calls([rpc(Checkout, "shop.checkout.v1.CheckoutService/PlaceOrder", 1_500)
            .with("app.order.id", "{order}")
            .with("app.user.id", "{user}")
            .with("app.order.amount", super::attributes::Value::Price)
            .with("app.order.express", true)
            .calls([
                within("prepareOrder", 600).calls([
                    rpc(Cart, "shop.cart.v1.CartService/GetCart", 300).calls([redis("HGETALL", "cart:{user}", 450)]),
                    get_product().up_to(4),
                    convert(),
                    quote(),
                ]),
                reserve(),
                charge(),
                ship(),
                rpc(Cart, "shop.cart.v1.CartService/EmptyCart", 250).calls([redis("DEL", "cart:{user}", 300)]),
                http(Email, "POST", "/v1/confirmations", 4_000)
                    .with("app.order.id", "{order}")
                    .calls([within("renderTemplate", 2_000), outside("POST", "smtp.mail.example", "/v3/send", 60_000)])
                    .recovers()
                    .says(Severity::Info, 1.0, "confirmation of order {order} sent"),
                announce(),
            ])
            .says(Severity::Info, 1.0, "order {order} placed by user {user}")])
        .says(Severity::Info, 1.0, "POST /api/checkout 200 session={session}")
}

fn reserve() -> Operation {
    let update = "UPDATE stock SET reserved = reserved + $1 WHERE sku = $2 AND available - reserved >= $1";
    rpc(Inventory, "shop.inventory.v1.InventoryService/Reserve", 800)
        .with("app.order.id", "{order}")
        .calls([
            sql("SELECT", "stock", "SELECT sku, available, reserved FROM stock WHERE sku = $1 FOR UPDATE", 900)
                .tailed(),
            sql("UPDATE", "stock", update, 1_300).tailed(),
        ])
        .fails(0.012, "java.lang.IllegalStateException", "stock of SKU is negative after reservation")
        .says(Severity::Debug, 0.5, "reserved {product} for order {order}")
}

fn charge() -> Operation {
    rpc(Payment, "shop.payment.v1.PaymentService/Charge", 1_800)
        .with("app.order.id", "{order}")
        .with("app.payment.amount", super::attributes::Value::Price)
        .with("app.payment.card_type", "visa")
        .calls([
            within("validateCard", 300),
            outside("POST", "api.payments.example", "/v1/charges", 110_000).tailed().fails(
                0.02,
                "ServiceUnavailable",
                "upstream connect error or disconnect before headers",
            ),
        ])
        .says(Severity::Info, 1.0, "charged order {order} of user {user}")
}

fn ship() -> Operation {
    http(Shipping, "POST", "/v1/shipments", 900)
        .with("app.order.id", "{order}")
        .calls([sql(
            "INSERT",
            "shipments",
            "INSERT INTO shipments (order_id, carrier, eta) VALUES ($1, $2, $3)",
            1_100,
        )])
        .says(Severity::Info, 0.5, "shipment for order {order} booked")
}

fn announce() -> Operation {
    publish(ORDERS, "{order}", 1_200).received_by([
        consume(Fraud, ORDERS, 3_000)
            .with("app.order.id", "{order}")
            .with("app.fraud.score", 0.125)
            .calls([
                within("scoreOrder", 14_000).with("app.fraud.rules", super::attributes::Value::List(&RULES)).tailed(),
                sql("INSERT", "scores", "INSERT INTO scores (order_id, score, rules) VALUES ($1, $2, $3)", 900),
            ])
            .says(Severity::Warn, 0.05, "order {order} of user {user} looks like fraud"),
        consume(Inventory, ORDERS, 1_500)
            .with("app.order.id", "{order}")
            .calls([sql("UPDATE", "stock", "UPDATE stock SET available = available - $1 WHERE sku = $2", 1_300)])
            .fails(0.01, "org.postgresql.util.PSQLException", "ERROR: could not serialize access"),
    ])
}

const RULES: [&str; 3] = ["velocity", "address-mismatch", "new-device"];

fn restock() -> Operation {
    let select = "SELECT sku, available FROM stock WHERE available < threshold ORDER BY sku LIMIT 100";
    job(Inventory, "restock", 5_000)
        .calls([
            sql("SELECT", "stock", select, 12_000).tailed(),
            sql("UPDATE", "stock", "UPDATE stock SET available = available + $1 WHERE sku = $2", 1_300).up_to(5),
        ])
        .says(Severity::Info, 1.0, "restocked what was low")
}

fn list_products() -> Operation {
    sql("SELECT", "products", "SELECT id, sku, name, price, picture FROM products WHERE featured LIMIT 30", 2_200)
        .tailed()
}

fn get_product() -> Operation {
    rpc(Catalog, "shop.catalog.v1.CatalogService/GetProduct", 350)
        .with("app.product.id", "{product}")
        .calls([sql("SELECT", "products", "SELECT id, sku, name, price, picture FROM products WHERE sku = $1", 800)
            .tailed()])
        .fails(0.002, "*pq.Error", "remaining connection slots are reserved")
        .says(Severity::Debug, 0.5, "product {product} read")
}

fn convert() -> Operation {
    rpc(Currency, "shop.currency.v1.CurrencyService/Convert", 120).with("app.currency.to", "EUR").says(
        Severity::Debug,
        0.3,
        "converted USD to EUR for session {session}",
    )
}

fn quote() -> Operation {
    http(Shipping, "POST", "/v1/quotes", 500)
        .with("app.shipping.items", Number::Rows)
        .calls([within("quoteRates", 250)])
        .says(Severity::Info, 0.7, "quoted shipping for user {user}")
}

fn ads() -> Operation {
    rpc(Ad, "shop.ad.v1.AdService/GetAds", 900).with("app.ads.targeted", true).tailed().fails(
        0.006,
        "java.util.concurrent.TimeoutException",
        "no ads within 100 ms",
    )
}

fn recommendations() -> Operation {
    rpc(Recommendation, "shop.recommendation.v1.RecommendationService/List", 2_500)
        .with("app.user.id", "{user}")
        .calls([
            within("rankProducts", 6_000).with("app.model.version", "2026-03").tailed(),
            rpc(Catalog, "shop.catalog.v1.CatalogService/ListProducts", 700).calls([list_products()]).in_share(0.4),
        ])
        .fails(0.008, "ValueError", "model returned no scores")
        .says(Severity::Info, 0.5, "ranked products for user {user}")
}
