const INITIAL_BYTES = 4096;
/** A larger buffer is released after use, so that one large request does not occupy memory forever. */
const KEPT_BYTES = 1 << 20;

/** A field's tag. */
export function tagOf(number: number, wireType: number): number {
  return ((number << 3) | wireType) >>> 0;
}

/** Writes protobuf wire format into one buffer that is reused between messages. */
export class WireWriter {
  private buffer = Buffer.allocUnsafeSlow(INITIAL_BYTES);
  private position = 0;

  /** Starts a new message and drops the remains of a failed one. */
  reset(): this {
    this.position = 0;
    if (this.buffer.length > KEPT_BYTES) this.buffer = Buffer.allocUnsafeSlow(INITIAL_BYTES);
    return this;
  }

  /** A copy of the written bytes. */
  finish(): Uint8Array {
    const bytes = Buffer.allocUnsafe(this.position);
    this.buffer.copy(bytes, 0, 0, this.position);
    return bytes;
  }

  private reserve(count: number): void {
    const needed = this.position + count;
    if (needed <= this.buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.buffer.length * 2));
    this.buffer.copy(grown, 0, 0, this.position);
    this.buffer = grown;
  }

  /** An unsigned 32-bit varint; also tags. */
  uint32(value: number): void {
    this.reserve(5);
    let rest = value;
    while (rest > 0x7f) {
      this.buffer[this.position++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.buffer[this.position++] = rest;
  }

  /** A signed 32-bit varint; negative values take ten bytes. */
  int32(value: number): void {
    if (value >= 0) this.uint32(value);
    else this.varint64(value >>> 0, 0xffffffff);
  }

  sint32(value: number): void {
    this.uint32(((value << 1) ^ (value >> 31)) >>> 0);
  }

  /** Signed or unsigned 64-bit varint, in two's complement. */
  int64(value: number | bigint): void {
    if (typeof value === 'number') {
      if (value >= 0 && value <= 0xffffffff) this.uint32(value);
      else this.varint64(low32(value), high32(value));
    } else {
      this.varint64(Number(BigInt.asUintN(32, value)), Number(BigInt.asUintN(32, value >> 32n)));
    }
  }

  sint64(value: number | bigint): void {
    const wide = BigInt(value);
    this.int64(BigInt.asUintN(64, (wide << 1n) ^ (wide >> 63n)));
  }

  /** `low` and `high` are unsigned halves. */
  private varint64(low: number, high: number): void {
    this.reserve(10);
    let lo = low;
    let hi = high;
    while (hi > 0) {
      this.buffer[this.position++] = (lo & 0x7f) | 0x80;
      lo = ((lo >>> 7) | (hi << 25)) >>> 0;
      hi >>>= 7;
    }
    this.uint32(lo);
  }

  fixed32(value: number): void {
    this.reserve(4);
    this.position = this.buffer.writeUInt32LE(value >>> 0, this.position);
  }

  fixed64(value: number | bigint): void {
    this.reserve(8);
    this.position = this.buffer.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), this.position);
  }

  float(value: number): void {
    this.reserve(4);
    this.position = this.buffer.writeFloatLE(value, this.position);
  }

  double(value: number): void {
    this.reserve(8);
    this.position = this.buffer.writeDoubleLE(value, this.position);
  }

  bool(value: boolean): void {
    this.uint32(value ? 1 : 0);
  }

  /** Length and UTF-8. The text must not contain lone surrogates. */
  string(text: string): void {
    const start = this.begin();
    this.reserve(text.length * 3);
    if (text.length <= 32 && this.ascii(text)) {
      this.end(start);
      return;
    }
    this.position = start + this.buffer.write(text, start, 'utf8');
    this.end(start);
  }

  /** Faster for short ASCII than a call into the runtime; returns false if the text is not ASCII. */
  private ascii(text: string): boolean {
    let at = this.position;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      if (unit > 0x7f) return false;
      this.buffer[at++] = unit;
    }
    this.position = at;
    return true;
  }

  /** Length and bytes. */
  bytes(bytes: Uint8Array): void {
    this.uint32(bytes.length);
    this.raw(bytes);
  }

  /** Raw bytes. */
  raw(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.buffer.set(bytes, this.position);
    this.position += bytes.length;
  }

  /** Opens a length-delimited value. Pass the result to `end`. */
  begin(): number {
    this.reserve(1);
    return ++this.position;
  }

  /** Closes it. One byte was reserved for the length; longer values are moved. */
  end(start: number): void {
    const length = this.position - start;
    if (length <= 0x7f) {
      this.buffer[start - 1] = length;
      return;
    }
    const extra = length < 1 << 14 ? 1 : length < 1 << 21 ? 2 : length < 1 << 28 ? 3 : 4;
    this.reserve(extra);
    const end = this.position;
    this.buffer.copyWithin(start + extra, start, end);
    this.position = start - 1;
    this.uint32(length);
    this.position = end + extra;
  }
}

function low32(value: number): number {
  return value >>> 0;
}

function high32(value: number): number {
  return Math.floor(value / 0x1_0000_0000) >>> 0;
}
