/** Seconds and nanoseconds; in a negative duration both are negative. */
export interface Instant {
  readonly seconds: number;
  readonly nanos: number;
}

const TIMESTAMP =
  /^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))$/;
const DURATION = /^(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s$/;
const GO_DURATION = /^([+-]?)((?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)$/;
const GO_DURATION_PART = /([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)/g;

/** 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z. */
const TIMESTAMP_MIN_SECONDS = -62_135_596_800;
const TIMESTAMP_MAX_SECONDS = 253_402_300_799;
/** About 10,000 years, the limit of google.protobuf.Duration. */
const DURATION_MAX_SECONDS = 315_576_000_000;
const NANOS = 1_000_000_000;

function nanosOf(fraction: string | undefined): number {
  return fraction === undefined ? 0 : Number(fraction.padEnd(9, '0'));
}

/** Parses RFC 3339; undefined if it is invalid or outside of the years 1 to 9999. */
export function parseTimestamp(text: string): Instant | undefined {
  const match = TIMESTAMP.exec(text);
  if (match === null) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  // Date.UTC interprets years below 100 as 19xx.
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59) {
    return undefined;
  }
  let seconds = date.getTime() / 1000 + hour * 3600 + minute * 60 + second;
  if (match[8] !== undefined) {
    const offsetHours = Number(match[9]);
    const offsetMinutes = Number(match[10]);
    if (offsetHours > 23 || offsetMinutes > 59) return undefined;
    const offset = offsetHours * 3600 + offsetMinutes * 60;
    seconds += match[8] === '-' ? offset : -offset;
  }
  if (seconds < TIMESTAMP_MIN_SECONDS || seconds > TIMESTAMP_MAX_SECONDS) return undefined;
  return { seconds, nanos: nanosOf(match[7]) };
}

/** UTC with 0, 3, 6 or 9 fractional digits; undefined if the value is out of range. */
export function timestampText(seconds: number, nanos: number): string | undefined {
  if (seconds < TIMESTAMP_MIN_SECONDS || seconds > TIMESTAMP_MAX_SECONDS || nanos < 0 || nanos >= NANOS) {
    return undefined;
  }
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}${fractionText(nanos)}Z`;
}

/** Proto3 JSON: `1.5s`. */
export function parseDuration(text: string): Instant | undefined {
  const match = DURATION.exec(text);
  if (match === null) return undefined;
  const seconds = Number(match[2]);
  const nanos = nanosOf(match[3]);
  if (seconds > DURATION_MAX_SECONDS) return undefined;
  return match[1] === '-' ? { seconds: 0 - seconds, nanos: 0 - nanos } : { seconds, nanos };
}

const GO_UNIT_NANOS: ReadonlyMap<string, bigint> = new Map([
  ['ns', 1n],
  ['us', 1_000n],
  ['µs', 1_000n],
  ['μs', 1_000n],
  ['ms', 1_000_000n],
  ['s', 1_000_000_000n],
  ['m', 60_000_000_000n],
  ['h', 3_600_000_000_000n],
]);

/** Parses Go's format: `1m30s`, `-1.5h`, `300ms`; digits below a nanosecond are truncated, as in Go. */
export function parseGoDuration(text: string): Instant | undefined {
  if (text.length > 64) return undefined;
  const match = GO_DURATION.exec(text);
  if (match === null) return undefined;
  let total = 0n;
  for (const [, whole, fraction, unitName] of match[2]!.matchAll(GO_DURATION_PART)) {
    const unit = GO_UNIT_NANOS.get(unitName!)!;
    total += BigInt(whole || '0') * unit;
    if (fraction) total += (BigInt(fraction) * unit) / 10n ** BigInt(fraction.length);
  }
  const seconds = Number(total / 1_000_000_000n);
  const nanos = Number(total % 1_000_000_000n);
  if (seconds > DURATION_MAX_SECONDS) return undefined;
  return match[1] === '-' ? { seconds: 0 - seconds, nanos: 0 - nanos } : { seconds, nanos };
}

/** Undefined if the value is out of range or its parts have different signs. */
export function durationText(seconds: number, nanos: number): string | undefined {
  if (Math.abs(seconds) > DURATION_MAX_SECONDS || Math.abs(nanos) >= NANOS) return undefined;
  if ((seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0)) return undefined;
  const sign = seconds < 0 || nanos < 0 ? '-' : '';
  return `${sign}${Math.abs(seconds)}${fractionText(Math.abs(nanos))}s`;
}

function fractionText(nanos: number): string {
  if (nanos === 0) return '';
  const digits = String(nanos).padStart(9, '0');
  if (digits.endsWith('000000')) return `.${digits.slice(0, 3)}`;
  if (digits.endsWith('000')) return `.${digits.slice(0, 6)}`;
  return `.${digits}`;
}

const CAMEL_PATH = /^[a-z][a-zA-Z0-9]*(?:\.[a-z][a-zA-Z0-9]*)*$/;
const SNAKE_PATH = /^[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*$/;

/** Converts `fooBar,baz.quxQuux` to proto paths; undefined if a path is not lowerCamelCase. */
export function parseFieldMask(text: string): string[] | undefined {
  if (text === '') return [];
  const paths = text.split(',');
  return paths.every((path) => CAMEL_PATH.test(path)) ? paths.map(snakePath) : undefined;
}

/** The same for query parameters, which may also use proto names, as in grpc-gateway. */
export function parseFieldMaskLoosely(text: string): string[] | undefined {
  if (text === '') return [];
  const paths = text.split(',');
  if (!paths.every((path) => CAMEL_PATH.test(path) || SNAKE_PATH.test(path))) return undefined;
  return paths.map((path) => (path.includes('_') ? path : snakePath(path)));
}

function snakePath(path: string): string {
  return path.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Undefined if a path cannot be converted back. */
export function fieldMaskText(paths: readonly string[]): string | undefined {
  const camel = paths.map((path) => path.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()));
  return camel.every((path, i) => !path.includes('_') && snakePath(path) === paths[i]) ? camel.join(',') : undefined;
}

const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/;

/** Decodes base64 or base64url, padded or not; undefined if it is neither. */
export function parseBase64(text: string): Uint8Array | undefined {
  if (!BASE64.test(text)) return undefined;
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const digits = text.length - padding;
  if (digits % 4 === 1 || (padding > 0 && text.length % 4 !== 0)) return undefined;
  return Buffer.from(text, 'base64');
}
