import type { IncomingMessage } from 'node:http';
import { invalidArgument } from './transcode-error.js';
import type { MetadataEntries, MetadataValue, MetadataView } from './types.js';
import { parseBase64 } from './well-known-text.js';

const PREFIX = 'grpc-metadata-';

/** Headers that become metadata under their own name. */
const FORWARDED = ['authorization', 'traceparent', 'tracestate', 'baggage', 'x-request-id'];

/** Standard HTTP headers, which become metadata `grpcgateway-<name>`, as in grpc-gateway. */
const PERMANENT = new Set([
  ...['accept', 'accept-charset', 'accept-language', 'accept-ranges', 'authorization', 'cache-control'],
  ...['content-type', 'cookie', 'date', 'expect', 'from', 'host', 'if-match', 'if-modified-since', 'if-none-match'],
  ...['if-schedule-tag-match', 'if-unmodified-since', 'max-forwards', 'origin', 'pragma', 'referer', 'user-agent'],
  ...['via', 'warning'],
]);

const METADATA_NAME = /^[0-9a-z_.-]+$/;

/**
 * Names that clients may not set by `Grpc-Metadata-`: those reserved by gRPC, those set by the transcoder or a proxy,
 * and credentials. The headers that are forwarded by their own names are reserved as well: a proxy that removes
 * `X-User-Id` does not know its alias.
 */
const RESERVED_NAME = /^(?:grpc-|grpcgateway-|x-forwarded-|x-real-ip$|authorization$)/;

/** What becomes of a header. */
interface Use {
  readonly role: 'forwarded-for' | 'forwarded-host' | undefined;
  /** Its name as metadata. */
  readonly name: string | undefined;
  /** Its additional name as metadata, for standard HTTP headers. */
  readonly gatewayName: string | undefined;
}

/** Bounds of the spellings of header names whose use is remembered: clients choose them. */
const MAX_KNOWN_NAMES = 256;
const MAX_KNOWN_LENGTH = 64;

/** Decides which request headers become metadata; created once. */
export class MetadataRules {
  private readonly forwarded: ReadonlySet<string>;
  private readonly reserved: ReadonlySet<string>;
  private readonly known = new Map<string, Use>();

  constructor(forwardHeaders: readonly string[]) {
    this.reserved = new Set(forwardHeaders.map((name) => name.toLowerCase()));
    this.forwarded = new Set([...FORWARDED, ...this.reserved]);
  }

  /** @throws TranscodeError if a `-bin` header is not base64 */
  read(req: IncomingMessage): RequestMetadata {
    const entries: [string, MetadataValue][] = [];
    const { rawHeaders } = req;
    let forwardedFor = '';
    let forwardedHost: string | undefined;
    for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
      const { role, name, gatewayName } = this.useOf(rawHeaders[i]!);
      const value = rawHeaders[i + 1]!;
      if (role === 'forwarded-for') forwardedFor += forwardedFor === '' ? value : `, ${value}`;
      else if (role === 'forwarded-host') forwardedHost = value;
      if (name !== undefined) addEntry(entries, name, value);
      if (gatewayName !== undefined) entries.push([gatewayName, value]);
    }
    const peer = req.socket.remoteAddress;
    if (peer !== undefined) entries.push(['x-forwarded-for', forwardedFor === '' ? peer : `${forwardedFor}, ${peer}`]);
    const { host } = req.headers;
    if (forwardedHost === undefined && host !== undefined) entries.push(['x-forwarded-host', host]);
    return new RequestMetadata(entries);
  }

  private useOf(rawName: string): Use {
    const known = this.known.get(rawName);
    if (known !== undefined) return known;
    const name = rawName.toLowerCase();
    const use: Use =
      name === 'x-forwarded-for'
        ? { role: 'forwarded-for', name: undefined, gatewayName: undefined }
        : {
            role: name === 'x-forwarded-host' ? 'forwarded-host' : undefined,
            name: this.metadataNameOf(name),
            gatewayName: PERMANENT.has(name) ? `grpcgateway-${name}` : undefined,
          };
    if (this.known.size < MAX_KNOWN_NAMES && rawName.length <= MAX_KNOWN_LENGTH) this.known.set(rawName, use);
    return use;
  }

  private metadataNameOf(name: string): string | undefined {
    if (name.startsWith(PREFIX)) {
      const own = name.slice(PREFIX.length);
      return METADATA_NAME.test(own) && !this.isReserved(own) ? own : undefined;
    }
    return this.forwarded.has(name) || name.startsWith('x-forwarded-') ? name : undefined;
  }

  private isReserved(name: string): boolean {
    return RESERVED_NAME.test(name) || this.reserved.has(name);
  }
}

function addEntry(entries: [string, MetadataValue][], name: string, value: string): void {
  if (!name.endsWith('-bin')) {
    entries.push([name, value]);
    return;
  }
  // gRPC allows several binary values in one header, separated by commas.
  for (const part of value.split(',')) {
    const bytes = parseBase64(part.trim());
    if (bytes === undefined) throw invalidArgument('', `header Grpc-Metadata-${name} is not base64`);
    entries.push([name, bytes]);
  }
}

const NO_VALUES: readonly MetadataValue[] = [];

export class RequestMetadata implements MetadataView {
  constructor(private readonly entries: readonly (readonly [string, MetadataValue])[]) {}

  get(name: string): MetadataValue | undefined {
    for (const entry of this.entries) if (entry[0] === name) return entry[1];
    return undefined;
  }

  getAll(name: string): readonly MetadataValue[] {
    let found: MetadataValue[] | undefined;
    for (const entry of this.entries) {
      if (entry[0] !== name) continue;
      if (found === undefined) found = [entry[1]];
      else found.push(entry[1]);
    }
    return found ?? NO_VALUES;
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  [Symbol.iterator](): Iterator<readonly [string, MetadataValue]> {
    return this.entries[Symbol.iterator]();
  }
}

/** Reply metadata as HTTP headers, alternating names and values. Entries that HTTP cannot represent are omitted. */
export function httpHeadersOf(entries: MetadataEntries, prefix: string, exposed: ReadonlySet<string>): string[] {
  const out: string[] = [];
  for (const [name, value] of entries) {
    if (!METADATA_NAME.test(name)) continue;
    const text = typeof value === 'string' ? value : Buffer.from(value).toString('base64');
    if (!isHeaderValue(text)) continue;
    out.push(exposed.has(name) ? name : prefix + name, text);
  }
  return out;
}

const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Whether it is a valid header value. A newline would start another header, and node:http throws on it. */
export function isHeaderValue(text: string): boolean {
  return HEADER_VALUE.test(text);
}

const TIMEOUT = /^([0-9]{1,8})([HMSmun])$/;
const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/**
 * `Grpc-Timeout` in milliseconds, rounded up.
 * @throws TranscodeError if it is invalid
 */
export function parseGrpcTimeout(text: string): number {
  const match = TIMEOUT.exec(text);
  if (match === null) throw invalidArgument('', 'header Grpc-Timeout is not a timeout such as 500m');
  return Math.ceil(Number(match[1]) * UNIT_MS[match[2]!]!);
}
