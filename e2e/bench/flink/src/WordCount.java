import java.nio.charset.StandardCharsets;
import java.util.Locale;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.FlatMapFunction;
import org.apache.flink.api.common.functions.ReduceFunction;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.KafkaSourceBuilder;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.util.Collector;
import org.apache.flink.util.ParameterTool;

/**
 * The word count of {@code examples/word-count} for real Flink: lines from a Kafka topic, words in lower case split at what
 * is not alphanumeric, "word count" records out, to a topic or to nowhere.
 *
 * <p>Written as somebody would who wants Flink to be fast: no regular expression, no lambda without type, one tuple type
 * with Flink's own serializer, one object a word. The names of source and flat map are what the bench reads counters by.
 */
public final class WordCount {

    private WordCount() {}

    public static void main(String[] arguments) throws Exception {
        ParameterTool options = ParameterTool.fromArgs(arguments);
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment();
        environment.getConfig().enableObjectReuse();

        write(
                words(environment, options)
                        .keyBy(word -> word.f0, Types.STRING)
                        .reduce(new Sum())
                        .name("counts"),
                options);
        environment.execute("word-count");
    }

    /** A tuple (word, 1) for each word of the input topic. */
    static DataStream<Tuple2<String, Long>> words(
            StreamExecutionEnvironment environment, ParameterTool options) {
        return environment
                .fromSource(source(options), WatermarkStrategy.noWatermarks(), "lines")
                .flatMap(new Words())
                .returns(Types.TUPLE(Types.STRING, Types.LONG))
                .name("words");
    }

    /** To where the options say. */
    static void write(DataStream<Tuple2<String, Long>> counts, ParameterTool options) {
        if (options.get("sink", "kafka").equals("blackhole")) {
            counts.sinkTo(new DiscardingSink<>()).name("blackhole");
        } else {
            counts.sinkTo(sink(options)).name("kafka");
        }
    }

    private static KafkaSource<String> source(ParameterTool options) {
        KafkaSourceBuilder<String> builder =
                KafkaSource.<String>builder()
                        .setBootstrapServers(options.getRequired("bootstrap-servers"))
                        .setTopics(options.getRequired("input-topic"))
                        .setGroupId("word-count-flink")
                        .setStartingOffsets(OffsetsInitializer.earliest())
                        .setValueOnlyDeserializer(new SimpleStringSchema());
        if (options.has("bounded")) {
            builder.setBounded(OffsetsInitializer.latest());
        }
        return builder.build();
    }

    private static KafkaSink<Tuple2<String, Long>> sink(ParameterTool options) {
        return KafkaSink.<Tuple2<String, Long>>builder()
                .setBootstrapServers(options.getRequired("bootstrap-servers"))
                .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
                .setRecordSerializer(
                        KafkaRecordSerializationSchema.<Tuple2<String, Long>>builder()
                                .setTopic(options.getRequired("output-topic"))
                                .setKeySerializationSchema(new Word())
                                .setValueSerializationSchema(new CountText())
                                .build())
                .build();
    }

    /** Splits at what is neither letter nor digit and lowers. */
    private static final class Words implements FlatMapFunction<String, Tuple2<String, Long>> {
        private static final long serialVersionUID = 1L;

        private final Tuple2<String, Long> word = Tuple2.of("", 1L);

        @Override
        public void flatMap(String line, Collector<Tuple2<String, Long>> out) {
            int length = line.length();
            int start = -1;
            for (int at = 0; at < length; ) {
                int character = line.codePointAt(at);
                if (isAlphanumeric(character)) {
                    if (start < 0) {
                        start = at;
                    }
                } else if (start >= 0) {
                    emit(line, start, at, out);
                    start = -1;
                }
                at += Character.charCount(character);
            }
            if (start >= 0) {
                emit(line, start, length, out);
            }
        }

        /** What Rust calls alphanumeric: Unicode's Alphabetic, and numbers of all three kinds. */
        private static boolean isAlphanumeric(int character) {
            if (character < 128) {
                return (character | 32) >= 'a' && (character | 32) <= 'z' || character >= '0' && character <= '9';
            }
            int type = Character.getType(character);
            return Character.isAlphabetic(character)
                    || type == Character.DECIMAL_DIGIT_NUMBER
                    || type == Character.LETTER_NUMBER
                    || type == Character.OTHER_NUMBER;
        }

        private void emit(String line, int start, int end, Collector<Tuple2<String, Long>> out) {
            word.f0 = line.substring(start, end).toLowerCase(Locale.ROOT);
            out.collect(word);
        }
    }

    private static final class Sum implements ReduceFunction<Tuple2<String, Long>> {
        private static final long serialVersionUID = 1L;

        @Override
        public Tuple2<String, Long> reduce(Tuple2<String, Long> sum, Tuple2<String, Long> one) {
            return Tuple2.of(sum.f0, sum.f1 + one.f1);
        }
    }

    /** One word's counts stay in one partition, in order. */
    private static final class Word implements SerializationSchema<Tuple2<String, Long>> {
        private static final long serialVersionUID = 1L;

        @Override
        public byte[] serialize(Tuple2<String, Long> count) {
            return count.f0.getBytes(StandardCharsets.UTF_8);
        }
    }

    private static final class CountText implements SerializationSchema<Tuple2<String, Long>> {
        private static final long serialVersionUID = 1L;

        @Override
        public byte[] serialize(Tuple2<String, Long> count) {
            return (count.f0 + ' ' + count.f1).getBytes(StandardCharsets.UTF_8);
        }
    }
}
