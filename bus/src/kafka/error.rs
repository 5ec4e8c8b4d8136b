//! What librdkafka reports, as errors of the bus.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::error::{BusError, ErrorClass};

/// What an operation was, for its errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation<'a> {
    pub(super) what: &'static str,
    pub(super) brokers: &'a str,
    pub(super) timeout: Duration,
}

impl Operation<'_> {
    /// The error of the bus for a code of librdkafka or of a broker.
    ///
    /// Topics and sizes are the caller's to know; it looks at those codes first.
    pub(super) fn error(&self, code: Code, reason: &str) -> BusError {
        let reason = reason.to_owned();
        match code {
            Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::SSL => {
                BusError::Unreachable { brokers: self.brokers.to_owned(), reason }
            }
            Code::OperationTimedOut | Code::MessageTimedOut | Code::RequestTimedOut | Code::TimedOutQueue => {
                BusError::TimedOut { what: self.what, after: self.timeout }
            }
            Code::QueueFull => BusError::Full { reason },
            Code::InvalidArgument
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedFeature
            | Code::InvalidConfig
            | Code::InvalidReplicationFactor
            | Code::InvalidPartitions
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed => BusError::Config(format!("{}: {reason}", self.what)),
            code if is_fenced(code) => BusError::Fenced { reason },
            _ => BusError::Other { what: self.what, reason, class: ErrorClass::Transient(None) },
        }
    }

    /// The error of the bus for an error of rdkafka.
    pub(super) fn kafka_error(&self, error: &KafkaError) -> BusError {
        match error {
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => {
                BusError::Config(error.to_string())
            }
            KafkaError::AdminOp(code) => self.error(*code, &code.to_string()),
            _ => match error.rdkafka_error_code() {
                Some(code) => self.error(code, &error.to_string()),
                None => {
                    BusError::Other { what: self.what, reason: error.to_string(), class: ErrorClass::Transient(None) }
                }
            },
        }
    }
}

/// Whether another member or a newer transaction has taken over.
pub(super) fn is_fenced(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::TransactionCoordinatorFenced
            | Code::FencedInstanceId
            | Code::IllegalGeneration
            | Code::UnknownMemberId
    )
}

/// Whether the topic does not exist.
pub(super) fn is_unknown_topic(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::InvalidTopic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(code: Code) -> ErrorClass {
        let operation = Operation { what: "test", brokers: "b:1", timeout: Duration::from_secs(1) };
        operation.error(code, "reason").class()
    }

    #[test]
    fn codes_fall_into_the_class_that_tells_the_caller_what_to_do() {
        assert_eq!(class(Code::AllBrokersDown), ErrorClass::Transient(None));
        assert_eq!(class(Code::OperationTimedOut), ErrorClass::Transient(None));
        assert_eq!(class(Code::NotEnoughReplicas), ErrorClass::Transient(None));
        assert_eq!(class(Code::ProducerFenced), ErrorClass::Transient(None));
        assert_eq!(class(Code::TopicAuthorizationFailed), ErrorClass::Fatal);
        assert_eq!(class(Code::SaslAuthenticationFailed), ErrorClass::Fatal);
    }
}
