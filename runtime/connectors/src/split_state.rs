//! How readers' states are stored: protobuf messages, which grow by fields.

use prost::Message;

use crate::ConnectorError;

/// One state as bytes.
pub(crate) fn encode(state: &impl Message) -> Vec<u8> {
    state.encode_to_vec()
}

/// The states that all subtasks gave; `source` names who reads them.
pub(crate) fn decode<M: Message + Default>(
    source: &str,
    states: &[Vec<u8>],
) -> Result<Vec<M>, ConnectorError> {
    let read = |state: &Vec<u8>| M::decode(state.as_slice());
    states.iter().map(read).collect::<Result<_, _>>().map_err(|error| {
        ConnectorError::Refused(format!(
            "{source}: what the checkpoint holds is no state of such a source ({error}): restore the operator that wrote it, or \
             give this one another uid"
        ))
    })
}
