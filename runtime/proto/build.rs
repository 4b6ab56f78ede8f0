//! Generates the gRPC services and messages from `proto/`.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure().compile_protos(
        &[
            "proto/thalweg/graph/v1/graph.proto",
            "proto/thalweg/state/v1/state.proto",
            "proto/thalweg/control/v1/control.proto",
            "proto/thalweg/cluster/v1/cluster.proto",
            "proto/thalweg/ha/v1/ha.proto",
        ],
        &["proto"],
    )
}
