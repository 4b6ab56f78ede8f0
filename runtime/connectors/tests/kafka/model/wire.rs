//! Requests to the model's state, and answers back.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::describe_transactions_response::TransactionState as DescribedTransaction;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey, ApiVersionsResponse, BrokerId,
    DescribeConfigsResponse, DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest,
    EndTxnResponse, FetchRequest, FetchResponse, FindCoordinatorResponse, InitProducerIdRequest,
    InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, ListTransactionsResponse,
    MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, ProducerId, RequestHeader,
    ResponseHeader, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

use super::State;
use super::partition::identity_of;

const NODE: BrokerId = BrokerId(1);
/// What it speaks, as Kafka 4.1: transaction version 2 would begin at Produce 12, AddPartitionsToTxn 4 and EndTxn 5.
const APIS: [(ApiKey, i16, i16); 12] = [
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::Produce, 3, 13),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::AddPartitionsToTxn, 0, 5),
    (ApiKey::EndTxn, 0, 5),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::ListTransactions, 0, 2),
    (ApiKey::DescribeTransactions, 0, 0),
];

/// A request as it came.
pub(crate) struct Request {
    pub(crate) key: ApiKey,
    version: i16,
    correlation: i32,
    body: Bytes,
}

impl Request {
    pub(crate) fn of(mut frame: Bytes) -> Self {
        let key = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).unwrap();
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let header = RequestHeader::decode(&mut frame, key.request_header_version(version)).unwrap();
        Self {
            key,
            version,
            correlation: header.correlation_id,
            body: frame,
        }
    }

    fn read<R: Decodable>(&self) -> R {
        R::decode(&mut self.body.clone(), self.version).unwrap()
    }

    fn answer<R: Encodable + HeaderVersion>(&self, answer: &R) -> Bytes {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(self.correlation);
        header
            .encode(&mut frame, R::header_version(self.version))
            .unwrap();
        answer.encode(&mut frame, self.version).unwrap();
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        frame.freeze()
    }
}

fn code<T>(result: Result<T, ResponseError>) -> i16 {
    result.err().map_or(0, |error| error.code())
}

impl State {
    /// The answer to a request; with `refuse` that this broker is the wrong one, where that can be said.
    pub(crate) fn serve(&mut self, request: &Request, refuse: bool) -> Bytes {
        match request.key {
            ApiKey::ApiVersions => request.answer(&self.versions()),
            ApiKey::Metadata => request.answer(&self.metadata(&request.read())),
            ApiKey::Produce => request.answer(&self.produce(&request.read(), refuse)),
            ApiKey::Fetch => request.answer(&self.fetch(&request.read())),
            ApiKey::ListOffsets => request.answer(&self.list_offsets(&request.read())),
            ApiKey::FindCoordinator => request.answer(&self.find_coordinator()),
            ApiKey::InitProducerId => request.answer(&self.init_producer_id(&request.read(), refuse)),
            ApiKey::AddPartitionsToTxn => request.answer(&self.add_partitions(&request.read(), refuse)),
            ApiKey::EndTxn => request.answer(&self.end_txn(&request.read(), refuse)),
            ApiKey::DescribeConfigs => request.answer(&self.describe_configs()),
            ApiKey::ListTransactions => request.answer(&self.list_transactions()),
            ApiKey::DescribeTransactions => {
                request.answer(&self.describe_transactions(&request.read(), refuse))
            }
            other => panic!("{other:?} is not asked by the sink"),
        }
    }

    fn versions(&self) -> ApiVersionsResponse {
        let version = |(key, min, max): (ApiKey, i16, i16)| {
            ApiVersion::default()
                .with_api_key(key as i16)
                .with_min_version(min)
                .with_max_version(max)
        };
        ApiVersionsResponse::default().with_api_keys(APIS.map(version).to_vec())
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let broker = MetadataResponseBroker::default()
            .with_node_id(NODE)
            .with_host(StrBytes::from_static_str("127.0.0.1"))
            .with_port(i32::from(self.port));
        let name = request.topics.as_ref().unwrap()[0].name.clone();
        let topic = MetadataResponseTopic::default().with_name(name);
        let topic = if self.topic_deleted {
            topic.with_error_code(ResponseError::UnknownTopicOrPartition.code())
        } else {
            let partition = |index: usize| {
                MetadataResponsePartition::default()
                    .with_partition_index(index as i32)
                    .with_leader_id(NODE)
            };
            topic.with_partitions((0..self.partitions.len()).map(partition).collect())
        };
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_topics(vec![topic])
    }

    fn produce(&mut self, request: &ProduceRequest, refuse: bool) -> ProduceResponse {
        let topic = &request.topic_data[0];
        let id = request.transactional_id.as_ref().unwrap().0.to_string();
        let mut answers = Vec::new();
        for data in &topic.partition_data {
            let appended = self.append(&id, data.index as usize, data.records.as_ref().unwrap(), refuse);
            answers.push(
                PartitionProduceResponse::default()
                    .with_index(data.index)
                    .with_base_offset(appended.unwrap_or(-1))
                    .with_error_code(code(appended)),
            );
        }
        let topic = TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_partition_responses(answers);
        ProduceResponse::default().with_responses(vec![topic])
    }

    fn append(
        &mut self,
        id: &str,
        partition: usize,
        batch: &Bytes,
        refuse: bool,
    ) -> Result<i64, ResponseError> {
        if self.topic_deleted {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        if refuse {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        self.coordinator.verify(id, identity_of(batch), partition)?;
        self.partitions[partition].append(batch)
    }

    fn fetch(&self, request: &FetchRequest) -> FetchResponse {
        let topic = &request.topics[0];
        let asked = &topic.partitions[0];
        let partition = &self.partitions[asked.partition as usize];
        let data = PartitionData::default()
            .with_partition_index(asked.partition)
            .with_last_stable_offset(-1);
        let data = if (partition.start..=partition.end).contains(&asked.fetch_offset) {
            let aborted = partition.aborted_from(asked.fetch_offset).into_iter();
            let aborted = aborted.map(|aborted| {
                AbortedTransaction::default()
                    .with_producer_id(ProducerId(aborted.producer))
                    .with_first_offset(aborted.first)
            });
            data.with_high_watermark(partition.end)
                .with_last_stable_offset(partition.last_stable())
                .with_aborted_transactions(Some(aborted.collect()))
                .with_records(partition.batch_from(asked.fetch_offset))
        } else {
            data.with_error_code(ResponseError::OffsetOutOfRange.code())
        };
        let topic = FetchableTopicResponse::default()
            .with_topic(topic.topic.clone())
            .with_partitions(vec![data]);
        FetchResponse::default().with_responses(vec![topic])
    }

    fn list_offsets(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let topic = &request.topics[0];
        let asked = &topic.partitions[0];
        let partition = &self.partitions[asked.partition_index as usize];
        let offset = match asked.timestamp {
            -2 => partition.start,
            _ => partition.end,
        };
        let answer = ListOffsetsPartitionResponse::default()
            .with_partition_index(asked.partition_index)
            .with_offset(offset);
        let topic = ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(vec![answer]);
        ListOffsetsResponse::default().with_topics(vec![topic])
    }

    fn find_coordinator(&self) -> FindCoordinatorResponse {
        if self.without_coordinator {
            let code = ResponseError::CoordinatorNotAvailable.code();
            return FindCoordinatorResponse::default().with_error_code(code);
        }
        FindCoordinatorResponse::default()
            .with_node_id(NODE)
            .with_host(StrBytes::from_static_str("127.0.0.1"))
            .with_port(i32::from(self.port))
    }

    fn init_producer_id(&mut self, request: &InitProducerIdRequest, refuse: bool) -> InitProducerIdResponse {
        let known = (request.producer_id.0, request.producer_epoch);
        let id = request.transactional_id.as_ref().unwrap();
        let begun = match self.refused(refuse) {
            Some(error) => Err(error),
            None if request.transaction_timeout_ms > self.max_timeout_ms => {
                Err(ResponseError::InvalidTransactionTimeout)
            }
            None if self.ids_busy => Err(ResponseError::ConcurrentTransactions),
            None => self.coordinator.init(id, known),
        };
        let answer = InitProducerIdResponse::default().with_error_code(code(begun));
        match begun {
            Ok((id, epoch)) => answer.with_producer_id(ProducerId(id)).with_producer_epoch(epoch),
            Err(_) => answer,
        }
    }

    fn refused(&self, refuse: bool) -> Option<ResponseError> {
        let elsewhere = refuse.then_some(ResponseError::NotCoordinator);
        self.transactions_refused.or(elsewhere)
    }

    fn add_partitions(
        &mut self,
        request: &AddPartitionsToTxnRequest,
        refuse: bool,
    ) -> AddPartitionsToTxnResponse {
        let identity = (
            request.v3_and_below_producer_id.0,
            request.v3_and_below_producer_epoch,
        );
        let topic = &request.v3_and_below_topics[0];
        let partitions = topic.partitions.iter().map(|partition| *partition as usize);
        let added = match self.refused(refuse) {
            Some(error) => Err(error),
            None if self.topic_deleted => Err(ResponseError::UnknownTopicOrPartition),
            None => self
                .coordinator
                .add(&request.v3_and_below_transactional_id, identity, partitions),
        };
        let result = |partition: &i32| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(code(added))
        };
        let topic = AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(topic.partitions.iter().map(result).collect());
        AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(vec![topic])
    }

    fn end_txn(&mut self, request: &EndTxnRequest, refuse: bool) -> EndTxnResponse {
        let identity = (request.producer_id.0, request.producer_epoch);
        let ended = match self.refused(refuse) {
            Some(error) => Err(error),
            None => self
                .coordinator
                .end(&request.transactional_id, identity, request.committed),
        };
        EndTxnResponse::default().with_error_code(code(ended))
    }

    fn describe_configs(&self) -> DescribeConfigsResponse {
        let value = StrBytes::from_string(self.max_timeout_ms.to_string());
        let config = DescribeConfigsResourceResult::default().with_value(Some(value));
        let result = DescribeConfigsResult::default().with_configs(vec![config]);
        DescribeConfigsResponse::default().with_results(vec![result])
    }

    /// Of names that nobody uses.
    fn describe_transactions(
        &self,
        request: &DescribeTransactionsRequest,
        refuse: bool,
    ) -> DescribeTransactionsResponse {
        let error = match refuse {
            true => ResponseError::NotCoordinator,
            false => ResponseError::TransactionalIdNotFound,
        };
        let unknown = |id: &TransactionalId| {
            DescribedTransaction::default()
                .with_transactional_id(id.clone())
                .with_error_code(error.code())
        };
        let states = request.transactional_ids.iter().map(unknown);
        DescribeTransactionsResponse::default().with_transaction_states(states.collect())
    }

    fn list_transactions(&self) -> ListTransactionsResponse {
        let ongoing = self.coordinator.ongoing().into_iter().map(|(id, (producer, _))| {
            TransactionState::default()
                .with_transactional_id(TransactionalId(StrBytes::from_string(id)))
                .with_producer_id(ProducerId(producer))
                .with_transaction_state(StrBytes::from_static_str("Ongoing"))
        });
        ListTransactionsResponse::default().with_transaction_states(ongoing.collect())
    }
}
