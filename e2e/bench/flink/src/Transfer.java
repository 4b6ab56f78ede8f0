import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.FlatMapFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.api.java.tuple.Tuple4;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.sink.KafkaSinkBuilder;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.KafkaSourceBuilder;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.flink.util.ParameterTool;

/**
 * The job of {@code e2e/jobs/transfer} for real Flink, operator by operator and with the same arguments: transfers "id from
 * to amount" in, an entry "id account delta balance" for each of the two accounts out.
 *
 * <p>Written as somebody would who wants Flink to be fast: lines stay bytes until their numbers are read, and types have
 * Flink's own serializers. The names of source and operators are what the bench reads counters by.
 */
public final class Transfer {

    private static final long FIRST_BALANCE = 1_000;
    private static final TypeInformation<Tuple3<Long, Long, Long>> HALF = Types.TUPLE(Types.LONG, Types.LONG, Types.LONG);
    private static final TypeInformation<Tuple4<Long, Long, Long, Long>> ENTRY =
            Types.TUPLE(Types.LONG, Types.LONG, Types.LONG, Types.LONG);

    private Transfer() {}

    public static void main(String[] arguments) throws Exception {
        ParameterTool options = ParameterTool.fromArgs(arguments);
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment();
        environment.getConfig().enableObjectReuse();
        environment
                .fromSource(source(options), WatermarkStrategy.noWatermarks(), "transfers")
                .flatMap(new Halves())
                .returns(HALF)
                .name("halves")
                .keyBy(half -> half.f1, Types.LONG)
                .process(new Accounts(), ENTRY)
                .name("accounts")
                .sinkTo(sink(options))
                .name("entries");
        environment.execute("transfer");
    }

    private static KafkaSource<byte[]> source(ParameterTool options) {
        KafkaSourceBuilder<byte[]> builder =
                KafkaSource.<byte[]>builder()
                        .setBootstrapServers(options.getRequired("bootstrap-servers"))
                        .setTopics(options.getRequired("input-topic"))
                        .setGroupId("transfer-flink")
                        .setStartingOffsets(OffsetsInitializer.earliest())
                        .setValueOnlyDeserializer(new Line());
        if (options.has("bounded")) {
            builder.setBounded(OffsetsInitializer.latest());
        }
        return builder.build();
    }

    private static KafkaSink<Tuple4<Long, Long, Long, Long>> sink(ParameterTool options) {
        KafkaSinkBuilder<Tuple4<Long, Long, Long, Long>> builder =
                KafkaSink.<Tuple4<Long, Long, Long, Long>>builder()
                        .setBootstrapServers(options.getRequired("bootstrap-servers"))
                        .setRecordSerializer(
                                KafkaRecordSerializationSchema.<Tuple4<Long, Long, Long, Long>>builder()
                                        .setTopic(options.getRequired("output-topic"))
                                        .setKeySerializationSchema(new AccountText())
                                        .setValueSerializationSchema(new EntryText())
                                        .build());
        if (options.has("transactional-id-prefix")) {
            // Flink's own default, an hour, is more than a broker allows by default.
            builder.setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                    .setTransactionalIdPrefix(options.get("transactional-id-prefix"))
                    .setProperty("transaction.timeout.ms", "900000");
        } else {
            builder.setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE);
        }
        return builder.build();
    }

    private static final class Line extends AbstractDeserializationSchema<byte[]> {
        private static final long serialVersionUID = 1L;

        @Override
        public byte[] deserialize(byte[] message) {
            return message;
        }
    }

    private static final class Halves implements FlatMapFunction<byte[], Tuple3<Long, Long, Long>> {
        private static final long serialVersionUID = 1L;

        private final long[] numbers = new long[4];
        private final Tuple3<Long, Long, Long> half = Tuple3.of(0L, 0L, 0L);

        @Override
        public void flatMap(byte[] line, Collector<Tuple3<Long, Long, Long>> out) {
            int field = 0;
            long number = 0;
            for (byte character : line) {
                if (character == ' ') {
                    numbers[field++] = number;
                    number = 0;
                } else {
                    number = number * 10 + (character - '0');
                }
            }
            numbers[field] = number;
            half.f0 = numbers[0];
            half.f1 = numbers[1];
            half.f2 = -numbers[3];
            out.collect(half);
            half.f1 = numbers[2];
            half.f2 = numbers[3];
            out.collect(half);
        }
    }

    private static final class Accounts
            extends KeyedProcessFunction<Long, Tuple3<Long, Long, Long>, Tuple4<Long, Long, Long, Long>> {
        private static final long serialVersionUID = 1L;

        private final Tuple4<Long, Long, Long, Long> entry = Tuple4.of(0L, 0L, 0L, 0L);
        private transient ValueState<Long> balance;

        @Override
        public void open(OpenContext context) {
            balance = getRuntimeContext().getState(new ValueStateDescriptor<>("balance", Types.LONG));
        }

        @Override
        public void processElement(
                Tuple3<Long, Long, Long> half, Context context, Collector<Tuple4<Long, Long, Long, Long>> out)
                throws Exception {
            Long before = balance.value();
            long now = (before == null ? FIRST_BALANCE : before) + half.f2;
            balance.update(now);
            entry.f0 = half.f0;
            entry.f1 = half.f1;
            entry.f2 = half.f2;
            entry.f3 = now;
            out.collect(entry);
        }
    }

    private static final class AccountText implements SerializationSchema<Tuple4<Long, Long, Long, Long>> {
        private static final long serialVersionUID = 1L;

        @Override
        public byte[] serialize(Tuple4<Long, Long, Long, Long> entry) {
            return Long.toString(entry.f1).getBytes(StandardCharsets.ISO_8859_1);
        }
    }

    private static final class EntryText implements SerializationSchema<Tuple4<Long, Long, Long, Long>> {
        private static final long serialVersionUID = 1L;

        private final StringBuilder text = new StringBuilder();

        @Override
        public byte[] serialize(Tuple4<Long, Long, Long, Long> entry) {
            text.setLength(0);
            text.append(entry.f0).append(' ').append(entry.f1).append(' ').append(entry.f2).append(' ').append(entry.f3);
            return text.toString().getBytes(StandardCharsets.ISO_8859_1);
        }
    }
}
