/**
 * Array parameters in PostgreSQL's binary format, each one column of a set of rows. pg sends a Buffer as binary. It would
 * write an array as quoted text, element by element, and the server would parse that: in a settlement this took longer than
 * storing the rows.
 */

const HEADER_BYTES = 20;
const NULL_LENGTH = -1;
/** PostgreSQL counts microseconds from 2000-01-01. */
const POSTGRES_EPOCH_MS = Date.UTC(2000, 0, 1);

type Of<Row, Value> = (row: Row) => Value | null | undefined;

export function int8s<Row>(rows: readonly Row[], of: Of<Row, bigint>): Buffer {
  return fixed(20, 8, rows, of, (view, at, value) => view.setBigInt64(at, value));
}

export function int4s<Row>(rows: readonly Row[], of: Of<Row, number>): Buffer {
  return fixed(23, 4, rows, of, (view, at, value) => view.setInt32(at, value));
}

export function int2s<Row>(rows: readonly Row[], of: Of<Row, number>): Buffer {
  return fixed(21, 2, rows, of, (view, at, value) => view.setInt16(at, value));
}

/** @throws when a value is not a UUID */
/** In whole milliseconds, as a Date has them. */
export function timestamps<Row>(rows: readonly Row[], of: (row: Row) => Date): Buffer {
  return fixed(1184, 8, rows, of, (view, at, value) => {
    view.setBigInt64(at, BigInt(value.getTime() - POSTGRES_EPOCH_MS) * 1_000n);
  });
}

export function uuids<Row>(rows: readonly Row[], of: Of<Row, string>): Buffer {
  return fixed(2950, 16, rows, of, setUuid);
}

export function texts<Row>(rows: readonly Row[], of: Of<Row, string>): Buffer {
  const values = rows.map(of);
  // A UTF-16 code unit takes at most 3 bytes in UTF-8.
  const room = values.reduce((sum, value) => sum + 4 + 3 * (value?.length ?? 0), HEADER_BYTES);
  const buffer = Buffer.allocUnsafe(room);
  let at = writeHeader(buffer, 25, rows.length);
  for (const value of values) {
    const length = value == null ? NULL_LENGTH : buffer.write(value, at + 4);
    buffer.writeInt32BE(length, at);
    at += 4 + Math.max(0, length);
  }
  return buffer.subarray(0, at);
}

export function byteas<Row>(rows: readonly Row[], of: Of<Row, Uint8Array>): Buffer {
  const values = rows.map(of);
  const room = values.reduce((sum, value) => sum + 4 + (value?.length ?? 0), HEADER_BYTES);
  const buffer = Buffer.allocUnsafe(room);
  let at = writeHeader(buffer, 17, rows.length);
  for (const value of values) {
    buffer.writeInt32BE(value?.length ?? NULL_LENGTH, at);
    if (value) buffer.set(value, at + 4);
    at += 4 + (value?.length ?? 0);
  }
  return buffer.subarray(0, at);
}

function fixed<Row, Value>(
  oid: number,
  bytes: number,
  rows: readonly Row[],
  of: Of<Row, Value>,
  set: (view: DataView, at: number, value: Value) => void,
): Buffer {
  const buffer = Buffer.allocUnsafe(HEADER_BYTES + rows.length * (4 + bytes));
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
  let at = writeHeader(buffer, oid, rows.length);
  for (const row of rows) {
    const value = of(row);
    if (value == null) {
      view.setInt32(at, NULL_LENGTH);
      at += 4;
    } else {
      view.setInt32(at, bytes);
      set(view, at + 4, value);
      at += 4 + bytes;
    }
  }
  return buffer.subarray(0, at);
}

/** Dimensions, whether there may be NULLs, type of the elements, their number, index of the first. */
function writeHeader(buffer: Buffer, oid: number, count: number): number {
  buffer.writeInt32BE(count === 0 ? 0 : 1, 0);
  buffer.writeInt32BE(1, 4);
  buffer.writeInt32BE(oid, 8);
  if (count === 0) return 12;
  buffer.writeInt32BE(count, 12);
  buffer.writeInt32BE(1, 16);
  return HEADER_BYTES;
}

const NO_DIGIT = 0x10;
const DIGITS = new Uint8Array(256).fill(NO_DIGIT);
for (let i = 0; i < 16; i++) {
  DIGITS['0123456789abcdef'.charCodeAt(i)] = i;
  DIGITS['0123456789ABCDEF'.charCodeAt(i)] = i;
}

function setUuid(view: DataView, at: number, uuid: string): void {
  let bad = uuid.length === 36 ? 0 : NO_DIGIT;
  let from = 0;
  for (let i = 0; i < 16; i++) {
    if (i === 4 || i === 6 || i === 8 || i === 10) from += 1;
    const high = DIGITS[uuid.charCodeAt(from)] ?? NO_DIGIT;
    const low = DIGITS[uuid.charCodeAt(from + 1)] ?? NO_DIGIT;
    bad |= high | low;
    view.setUint8(at + i, (high << 4) | low);
    from += 2;
  }
  if ((bad & NO_DIGIT) !== 0) throw new Error(`${uuid} is not a UUID`);
}
