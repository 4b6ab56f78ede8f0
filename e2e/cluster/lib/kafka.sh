# shellcheck shell=bash
# A real Kafka: one broker that is its own controller (KRaft), in the cluster's namespace.
#
# Invariants:
# - Pods and `exec` reach it at the one address $KAFKA_ADDRESS. It needs the namespace, not Kubernetes, and makes the
#   namespace if there is none.
# - Topics are never created by accident. Internal topics have one replica.
# - `restart` and `kill` keep the data and the configuration; `down` removes them.

kafka_verb() {
  local verb=${1:-}
  [ $# -eq 0 ] || shift
  case $verb in
    up) lock_cluster && kafka_up ;;
    down) lock_cluster && kafka_down ;;
    restart) lock_cluster && stop_components TERM kafka && kafka_start ;;
    kill) lock_cluster && stop_components KILL kafka ;;
    address) say "$KAFKA_ADDRESS" ;;
    topics) kafka_tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$KAFKA_ADDRESS" "$@" ;;
    produce) kafka_tool org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$KAFKA_ADDRESS" "$@" ;;
    consume) kafka_tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$KAFKA_ADDRESS" "$@" ;;
    groups) kafka_tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --bootstrap-server "$KAFKA_ADDRESS" "$@" ;;
    configs) kafka_tool kafka.admin.ConfigCommand --bootstrap-server "$KAFKA_ADDRESS" "$@" ;;
    transactions) kafka_tool org.apache.kafka.tools.TransactionsCommand --bootstrap-server "$KAFKA_ADDRESS" "$@" ;;
    tool) [ $# -gt 0 ] && kafka_tool "$@" ;;
    *) fail "usage: kafka up|down|restart|kill|address|topics|produce|consume|groups|configs|transactions|tool" ;;
  esac
}

kafka_up() {
  require_built kafka
  if alive kafka && kafka_answers; then
    say "Kafka is already up at $KAFKA_ADDRESS"
    return
  fi
  stop_components TERM kafka
  mkdir -p "$STATE/kafka" "$STATE/log"
  network_up
  kafka_properties >"$STATE/kafka/server.properties"
  if [ ! -d "$STATE/kafka/data" ]; then
    kafka_java kafka.tools.StorageTool format --standalone --config "$STATE/kafka/server.properties" \
      --cluster-id "$(kafka_java kafka.tools.StorageTool random-uuid 2>/dev/null)" >"$STATE/log/kafka-format.log" 2>&1 || {
      show_log kafka-format
      fail "formatting Kafka's storage failed"
    }
  fi
  kafka_start
}

kafka_start() {
  [ -f "$STATE/kafka/server.properties" ] || fail "Kafka was not up: run '$0 kafka up'"
  start kafka java -Xms256m -Xmx512m -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -Djava.awt.headless=true \
    -Dorg.slf4j.simpleLogger.showDateTime=true -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS \
    -cp "$(component_dir kafka)/*" kafka.Kafka "$STATE/kafka/server.properties"
  wait_for 60 Kafka kafka kafka_answers
  say "Kafka is up at $KAFKA_ADDRESS"
}

# The broker opens its port when it is ready to serve.
kafka_answers() { in_ns bash -c "exec 3<>/dev/tcp/${KAFKA_ADDRESS/:/\/}"; }

kafka_down() {
  stop_components TERM kafka
  rm -rf "$STATE/kafka"
}

kafka_properties() {
  local bytes=${KAFKA_MAX_MESSAGE_BYTES:-1048588} setting
  cat <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://$KAFKA_ADDRESS,CONTROLLER://127.0.0.1:9093
advertised.listeners=PLAINTEXT://$KAFKA_ADDRESS,CONTROLLER://127.0.0.1:9093
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:9093
log.dirs=$STATE/kafka/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=$bytes
replica.fetch.max.bytes=$bytes
PROPERTIES
  for setting in ${KAFKA_CONFIG:-}; do echo "$setting"; done
}

# kafka_tool CLASS ARGS...: quiet but for errors, and with a JVM that starts fast.
kafka_tool() {
  require_built kafka
  network_exists || fail "Kafka is not up: run '$0 kafka up'"
  kafka_java -Dorg.slf4j.simpleLogger.defaultLogLevel=error "$@"
}

kafka_java() {
  in_ns java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -cp "$(component_dir kafka)/*" "$@"
}
