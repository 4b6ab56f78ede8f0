import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.FlatMapFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.ReduceFunction;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.sink.KafkaSinkBuilder;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.KafkaSourceBuilder;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.util.Collector;
import org.apache.flink.util.ParameterTool;

/**
 * The job of {@code ../keyed-count} for real Flink, operator by operator and with the same arguments: keys of 16
 * hexadecimal digits out of blocks, counted with as much state a key as is asked for, "key count" out to a topic or to
 * nowhere.
 *
 * <p>Written as somebody would who wants Flink to be fast: blocks stay bytes until a key is cut out of them, types have
 * Flink's own serializers, and state is the smallest that does it. The names of source and operators are what the bench
 * reads counters by.
 */
public final class KeyedCount {

    private static final int DIGITS = 16;

    private KeyedCount() {}

    public static void main(String[] arguments) throws Exception {
        ParameterTool options = ParameterTool.fromArgs(arguments);
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment();
        environment.getConfig().enableObjectReuse();
        if (options.get("key", "bigint").equals("string")) {
            build(environment, options, Types.STRING, new StringKeys());
        } else {
            build(environment, options, Types.LONG, new LongKeys());
        }
        environment.execute("keyed-count");
    }

    private static <K> void build(
            StreamExecutionEnvironment environment,
            ParameterTool options,
            TypeInformation<K> keyType,
            FlatMapFunction<byte[], Tuple2<K, Long>> cut) {
        TypeInformation<Tuple2<K, Long>> type = Types.TUPLE(keyType, Types.LONG);
        KeyedStream<Tuple2<K, Long>, K> keys =
                environment
                        .fromSource(source(options), WatermarkStrategy.noWatermarks(), "blocks")
                        .flatMap(cut)
                        .returns(type)
                        .name("keys")
                        .keyBy(one -> one.f0, keyType);
        DataStream<Tuple2<K, Long>> counts = count(keys, options, type).name("counts");
        if (options.get("sink", "kafka").equals("blackhole")) {
            counts.sinkTo(new DiscardingSink<>()).name("blackhole");
        } else {
            counts.sinkTo(sink(options)).name("kafka");
        }
    }

    private static <K> SingleOutputStreamOperator<Tuple2<K, Long>> count(
            KeyedStream<Tuple2<K, Long>, K> keys, ParameterTool options, TypeInformation<Tuple2<K, Long>> type) {
        if (options.get("program", "rolling").equals("rolling")) {
            return keys.reduce(new Sum<>());
        }
        int valueBytes = options.getInt("value-bytes", 0);
        return keys.process(valueBytes == 0 ? new Count<>() : new CountWithPayload<>(valueBytes), type);
    }

    private static KafkaSource<byte[]> source(ParameterTool options) {
        KafkaSourceBuilder<byte[]> builder =
                KafkaSource.<byte[]>builder()
                        .setBootstrapServers(options.getRequired("bootstrap-servers"))
                        .setTopics(options.getRequired("input-topic"))
                        .setGroupId("keyed-count-flink")
                        .setStartingOffsets(OffsetsInitializer.earliest())
                        .setValueOnlyDeserializer(new Block());
        if (options.has("bounded")) {
            builder.setBounded(OffsetsInitializer.latest());
        }
        return builder.build();
    }

    private static <K> KafkaSink<Tuple2<K, Long>> sink(ParameterTool options) {
        KafkaSinkBuilder<Tuple2<K, Long>> builder =
                KafkaSink.<Tuple2<K, Long>>builder()
                        .setBootstrapServers(options.getRequired("bootstrap-servers"))
                        .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
                        .setRecordSerializer(
                                KafkaRecordSerializationSchema.<Tuple2<K, Long>>builder()
                                        .setTopic(options.getRequired("output-topic"))
                                        .setKeySerializationSchema(new KeyText<>())
                                        .setValueSerializationSchema(new CountText<>())
                                        .build());
        if (options.has("transactional-id-prefix")) {
            // Flink's own default, an hour, is more than a broker allows by default.
            builder.setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                    .setTransactionalIdPrefix(options.get("transactional-id-prefix"))
                    .setProperty("transaction.timeout.ms", "900000");
        }
        return builder.build();
    }

    private static final class Block extends AbstractDeserializationSchema<byte[]> {
        private static final long serialVersionUID = 1L;

        @Override
        public byte[] deserialize(byte[] message) {
            return message;
        }
    }

    private static final class LongKeys implements FlatMapFunction<byte[], Tuple2<Long, Long>> {
        private static final long serialVersionUID = 1L;

        private final Tuple2<Long, Long> one = Tuple2.of(0L, 1L);

        @Override
        public void flatMap(byte[] block, Collector<Tuple2<Long, Long>> out) {
            for (int at = 0; at + DIGITS <= block.length; at += DIGITS) {
                long key = 0;
                for (int digit = at; digit < at + DIGITS; digit++) {
                    key = key << 4 | (block[digit] & 15) + 9 * (block[digit] >> 6);
                }
                one.f0 = key;
                out.collect(one);
            }
        }
    }

    private static final class StringKeys implements FlatMapFunction<byte[], Tuple2<String, Long>> {
        private static final long serialVersionUID = 1L;

        private final Tuple2<String, Long> one = Tuple2.of("", 1L);

        @Override
        public void flatMap(byte[] block, Collector<Tuple2<String, Long>> out) {
            for (int at = 0; at + DIGITS <= block.length; at += DIGITS) {
                one.f0 = new String(block, at, DIGITS, StandardCharsets.ISO_8859_1);
                out.collect(one);
            }
        }
    }

    private static final class Sum<K> implements ReduceFunction<Tuple2<K, Long>> {
        private static final long serialVersionUID = 1L;

        @Override
        public Tuple2<K, Long> reduce(Tuple2<K, Long> sum, Tuple2<K, Long> one) {
            return Tuple2.of(sum.f0, sum.f1 + one.f1);
        }
    }

    private static final class Count<K> extends KeyedProcessFunction<K, Tuple2<K, Long>, Tuple2<K, Long>> {
        private static final long serialVersionUID = 1L;

        private transient ValueState<Long> count;

        @Override
        public void open(OpenContext context) {
            count = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Types.LONG));
        }

        @Override
        public void processElement(Tuple2<K, Long> one, Context context, Collector<Tuple2<K, Long>> out)
                throws Exception {
            Long before = count.value();
            long now = before == null ? one.f1 : before + one.f1;
            count.update(now);
            out.collect(Tuple2.of(one.f0, now));
        }
    }

    /** Each record writes count and payload anew. */
    private static final class CountWithPayload<K> extends KeyedProcessFunction<K, Tuple2<K, Long>, Tuple2<K, Long>> {
        private static final long serialVersionUID = 1L;
        private static final VarHandle WORDS =
                MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

        private final int valueBytes;
        private long random = 0x9e37_79b9_7f4a_7c15L;
        private transient ValueState<Tuple2<Long, byte[]>> state;

        CountWithPayload(int valueBytes) {
            this.valueBytes = valueBytes;
        }

        @Override
        public void open(OpenContext context) {
            TypeInformation<Tuple2<Long, byte[]>> type =
                    Types.TUPLE(Types.LONG, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO);
            state = getRuntimeContext().getState(new ValueStateDescriptor<>("count", type));
        }

        @Override
        public void processElement(Tuple2<K, Long> one, Context context, Collector<Tuple2<K, Long>> out)
                throws Exception {
            Tuple2<Long, byte[]> value = state.value();
            if (value == null) {
                value = Tuple2.of(0L, new byte[valueBytes]);
            }
            value.f0 += one.f1;
            fill(value.f1);
            state.update(value);
            out.collect(Tuple2.of(one.f0, value.f0));
        }

        /** Marsaglia's xorshift over whole words, as in Rust. */
        private void fill(byte[] bytes) {
            for (int at = 0; at + Long.BYTES <= bytes.length; at += Long.BYTES) {
                random ^= random << 13;
                random ^= random >>> 7;
                random ^= random << 17;
                WORDS.set(bytes, at, random);
            }
        }
    }

    private static final class KeyText<K> implements SerializationSchema<Tuple2<K, Long>> {
        private static final long serialVersionUID = 1L;

        @Override
        public byte[] serialize(Tuple2<K, Long> count) {
            return text(count.f0).getBytes(StandardCharsets.ISO_8859_1);
        }
    }

    private static final class CountText<K> implements SerializationSchema<Tuple2<K, Long>> {
        private static final long serialVersionUID = 1L;

        @Override
        public byte[] serialize(Tuple2<K, Long> count) {
            return (text(count.f0) + ' ' + count.f1).getBytes(StandardCharsets.ISO_8859_1);
        }
    }

    /** A key as it was written. */
    private static String text(Object key) {
        return key instanceof Long ? String.format("%016x", key) : (String) key;
    }
}
