package thalweg.nexmark;

import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.file.src.FileSourceSplit;
import org.apache.flink.connector.file.src.reader.BulkFormat;
import org.apache.flink.connector.file.src.util.CheckpointedPosition;
import org.apache.flink.connector.file.src.util.MutableRecordAndPosition;
import org.apache.flink.connector.file.src.util.RecordAndPosition;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.data.binary.BinaryStringData;

/**
 * Recorded events as rows {@code (event_type, person, auction, bid)}. A file is "TWNX", 0, 0, 0, 1, then records: the length of what
 * follows (4 bytes), the kind (1), the numbers (8 each), the lengths of the texts (2 each), the texts; all big-endian.
 */
final class RecordedFormat implements BulkFormat<RowData, FileSourceSplit> {
    private static final long serialVersionUID = 1L;
    private static final int BUFFER = 1 << 20;
    private static final int BATCH = 1024;
    private static final int MAGIC = 8;
    /** By kind: numbers and texts of a record. */
    private static final int[] NUMBERS = {2, 7, 4};

    private static final int[] TEXTS = {6, 3, 3};

    private final TypeInformation<RowData> type;

    RecordedFormat(TypeInformation<RowData> type) {
        this.type = type;
    }

    @Override
    public Reader<RowData> createReader(Configuration configuration, FileSourceSplit split) throws IOException {
        return new Records(split, 0);
    }

    @Override
    public Reader<RowData> restoreReader(Configuration configuration, FileSourceSplit split) throws IOException {
        long passed = split.getReaderPosition().map(CheckpointedPosition::getRecordsAfterOffset).orElse(0L);
        return new Records(split, passed);
    }

    @Override
    public boolean isSplittable() {
        return false;
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
        return type;
    }

    /** Reads one file from its begin. */
    private static final class Records implements Reader<RowData> {
        private final DataInputStream input;
        private byte[] record = new byte[4096];
        private long given;

        Records(FileSourceSplit split, long passed) throws IOException {
            input = new DataInputStream(new BufferedInputStream(split.path().getFileSystem().open(split.path()), BUFFER));
            input.skipNBytes(MAGIC);
            for (; given < passed; given++) {
                next();
            }
        }

        @Override
        public RecordIterator<RowData> readBatch() throws IOException {
            RowData[] rows = new RowData[BATCH];
            int count = 0;
            for (; count < BATCH; count++) {
                rows[count] = next();
                if (rows[count] == null) {
                    break;
                }
            }
            if (count == 0) {
                return null;
            }
            Batch batch = new Batch(rows, count, given);
            given += count;
            return batch;
        }

        private RowData next() throws IOException {
            int length;
            try {
                length = input.readInt();
            } catch (EOFException end) {
                return null;
            }
            if (length > record.length) {
                record = new byte[length];
            }
            input.readFully(record, 0, length);
            return row(ByteBuffer.wrap(record, 0, length));
        }

        private RowData row(ByteBuffer bytes) {
            int kind = bytes.get();
            int texts = 1 + 8 * NUMBERS[kind];
            int at = texts + 2 * TEXTS[kind];
            BinaryStringData[] strings = new BinaryStringData[TEXTS[kind]];
            for (int i = 0; i < strings.length; i++) {
                int size = Short.toUnsignedInt(bytes.getShort(texts + 2 * i));
                byte[] copy = new byte[size];
                bytes.get(at, copy);
                strings[i] = BinaryStringData.fromBytes(copy);
                at += size;
            }
            GenericRowData row = new GenericRowData(4);
            row.setField(0, kind);
            row.setField(1 + kind, fields(kind, bytes, strings));
            return row;
        }

        private static GenericRowData fields(int kind, ByteBuffer bytes, BinaryStringData[] texts) {
            return switch (kind) {
                case 0 -> GenericRowData.of(
                        number(bytes, 0), texts[0], texts[1], texts[2], texts[3], texts[4], time(bytes, 1), texts[5]);
                case 1 -> GenericRowData.of(
                        number(bytes, 0),
                        texts[0],
                        texts[1],
                        number(bytes, 1),
                        number(bytes, 2),
                        time(bytes, 3),
                        time(bytes, 4),
                        number(bytes, 5),
                        number(bytes, 6),
                        texts[2]);
                default -> GenericRowData.of(
                        number(bytes, 0),
                        number(bytes, 1),
                        number(bytes, 2),
                        texts[0],
                        texts[1],
                        time(bytes, 3),
                        texts[2]);
            };
        }

        private static Long number(ByteBuffer bytes, int place) {
            return bytes.getLong(1 + 8 * place);
        }

        private static TimestampData time(ByteBuffer bytes, int place) {
            return TimestampData.fromEpochMillis(bytes.getLong(1 + 8 * place));
        }

        @Override
        public void close() throws IOException {
            input.close();
        }
    }

    /** Rows that were read at once. */
    private static final class Batch implements RecordIterator<RowData> {
        private final RowData[] rows;
        private final int count;
        private final MutableRecordAndPosition<RowData> current = new MutableRecordAndPosition<>();
        private int place;

        Batch(RowData[] rows, int count, long first) {
            this.rows = rows;
            this.count = count;
            current.set(null, CheckpointedPosition.NO_OFFSET, first);
        }

        @Override
        public RecordAndPosition<RowData> next() {
            if (place == count) {
                return null;
            }
            current.setNext(rows[place++]);
            return current;
        }

        @Override
        public void releaseBatch() {}
    }
}
