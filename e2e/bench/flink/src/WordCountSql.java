import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.Table;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.ParameterTool;

/**
 * The same word count with Flink SQL's aggregate in the middle: mini-batch and two phases, so that it folds a word's updates
 * before the exchange and before the sink, as Thalweg does.
 *
 * <p>The latency of a mini-batch is Flink's buffer timeout, which Thalweg's batches wait too.
 */
public final class WordCountSql {

    private WordCountSql() {}

    public static void main(String[] arguments) throws Exception {
        ParameterTool options = ParameterTool.fromArgs(arguments);
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment();
        environment.getConfig().enableObjectReuse();
        StreamTableEnvironment tables = StreamTableEnvironment.create(environment);
        tables.getConfig().set("table.exec.mini-batch.enabled", "true");
        tables.getConfig().set("table.exec.mini-batch.allow-latency", "100 ms");
        tables.getConfig().set("table.exec.mini-batch.size", "20000");
        tables.getConfig().set("table.optimizer.agg-phase-strategy", "TWO_PHASE");

        tables.createTemporaryView("words", WordCount.words(environment, options));
        Table counts = tables.sqlQuery("SELECT f0, SUM(f1) FROM words GROUP BY f0");
        DataStream<Tuple2<String, Long>> newest =
                tables.toChangelogStream(counts, Schema.newBuilder().build(), ChangelogMode.all())
                        .filter(row -> row.getKind() != RowKind.UPDATE_BEFORE)
                        .map(WordCountSql::count)
                        .returns(Types.TUPLE(Types.STRING, Types.LONG));
        WordCount.write(newest, options);
        environment.execute("word-count");
    }

    private static Tuple2<String, Long> count(Row row) {
        return Tuple2.of((String) row.getField(0), (Long) row.getField(1));
    }
}
