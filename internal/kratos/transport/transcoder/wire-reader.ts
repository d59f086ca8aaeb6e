/** Invalid protobuf bytes: an error of the host that produced the reply, never of the client. */
export class WireFault extends Error {
  override readonly name = 'WireFault';
}

const MAX_GROUP_DEPTH = 100;

/** Reads protobuf wire format. */
export class WireReader {
  private readonly buffer: Buffer;
  position = 0;
  end: number;

  constructor(bytes: Uint8Array) {
    this.buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.end = this.buffer.length;
  }

  private byte(): number {
    if (this.position >= this.end) throw new WireFault('message is cut short');
    return this.buffer[this.position++]!;
  }

  private take(count: number): number {
    const start = this.position;
    if (count > this.end - start) throw new WireFault('message is cut short');
    this.position = start + count;
    return start;
  }

  /** The low 32 bits of a varint, unsigned. */
  uint32(): number {
    let unit = this.byte();
    if (unit < 0x80) return unit;
    let value = unit & 0x7f;
    for (let shift = 7; shift < 70; shift += 7) {
      unit = this.byte();
      if (shift < 32) value |= (unit & 0x7f) << shift;
      if (unit < 0x80) return value >>> 0;
    }
    throw new WireFault('varint is too long');
  }

  int32(): number {
    return this.uint32() | 0;
  }

  sint32(): number {
    const value = this.uint32();
    return (value >>> 1) ^ -(value & 1);
  }

  bool(): boolean {
    const start = this.position;
    while (this.byte() >= 0x80) if (this.position - start >= 10) throw new WireFault('varint is too long');
    for (let at = start; at < this.position; at++) if ((this.buffer[at]! & 0x7f) !== 0) return true;
    return false;
  }

  /** Decimal text of a 64-bit varint. */
  int64Text(signed: boolean): string {
    const start = this.position;
    let value = 0;
    let scale = 1;
    // Seven bytes are 49 bits, which a double represents exactly.
    for (let i = 0; i < 7; i++) {
      const unit = this.byte();
      value += (unit & 0x7f) * scale;
      if (unit < 0x80) return String(value);
      scale *= 128;
    }
    this.position = start;
    const wide = this.varint64();
    return String(signed ? BigInt.asIntN(64, wide) : wide);
  }

  private varint64(): bigint {
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const unit = this.byte();
      const bits = unit & 0x7f;
      if (shift < 28) {
        low |= bits << shift;
      } else if (shift === 28) {
        low |= bits << 28;
        high = bits >>> 4;
      } else {
        high |= bits << (shift - 32);
      }
      if (unit < 0x80) return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    }
    throw new WireFault('varint is too long');
  }

  int64Number(): number {
    return Number(this.int64Text(true));
  }

  sint64Text(): string {
    const value = this.varint64();
    return String(BigInt.asIntN(64, (value >> 1n) ^ -(value & 1n)));
  }

  fixed32(): number {
    return this.buffer.readUInt32LE(this.take(4));
  }

  sfixed32(): number {
    return this.buffer.readInt32LE(this.take(4));
  }

  fixed64Text(): string {
    return String(this.buffer.readBigUInt64LE(this.take(8)));
  }

  sfixed64Text(): string {
    return String(this.buffer.readBigInt64LE(this.take(8)));
  }

  float(): number {
    return this.buffer.readFloatLE(this.take(4));
  }

  double(): number {
    return this.buffer.readDoubleLE(this.take(8));
  }

  string(): string {
    const length = this.uint32();
    const start = this.take(length);
    // Faster for short texts than a call into the runtime.
    if (length <= 16) {
      let text = '';
      let at = start;
      for (; at < this.position; at++) {
        const unit = this.buffer[at]!;
        if (unit > 0x7f) break;
        text += String.fromCharCode(unit);
      }
      if (at === this.position) return text;
    }
    return this.buffer.toString('utf8', start, this.position);
  }

  base64(): string {
    const length = this.uint32();
    return this.buffer.toString('base64', this.take(length), this.position);
  }

  /** A view of a length-delimited value, not a copy. */
  bytes(): Buffer {
    const length = this.uint32();
    const start = this.take(length);
    return this.buffer.subarray(start, this.position);
  }

  /** Skips a value, also a group, which may occur among unknown fields. */
  skip(wireType: number, depth = 0): void {
    switch (wireType) {
      case 0:
        this.bool();
        return;
      case 1:
        this.take(8);
        return;
      case 2:
        this.take(this.uint32());
        return;
      case 3:
        if (depth === MAX_GROUP_DEPTH) throw new WireFault('groups are nested too deep');
        for (let tag = this.uint32(); (tag & 7) !== 4; tag = this.uint32()) this.skip(tag & 7, depth + 1);
        return;
      case 5:
        this.take(4);
        return;
      default:
        throw new WireFault(`wire type ${wireType} is not supported`);
    }
  }
}
