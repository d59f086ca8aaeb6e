/** Format of a reply. */
export type ReplyFormat = 'json' | 'protobuf' | 'ndjson' | 'sse';

interface Range {
  readonly type: string;
  readonly quality: number;
}

/** `application/proto` is Connect's name. */
const PROTOBUF_TYPES = new Set(['application/x-protobuf', 'application/protobuf', 'application/proto']);

const JSON_ONLY: readonly (readonly [string, ReplyFormat])[] = [['application/json', 'json']];
const UNARY: readonly (readonly [string, ReplyFormat])[] = [
  ['application/json', 'json'],
  ['application/x-protobuf', 'protobuf'],
  ['application/protobuf', 'protobuf'],
];
const STREAM: readonly (readonly [string, ReplyFormat])[] = [
  ['application/json', 'ndjson'],
  ['application/x-ndjson', 'ndjson'],
  ['text/event-stream', 'sse'],
];

/** The formats that a route offers: `unary`, only `json` (for `response_body`), or `stream`. */
export type Offer = 'unary' | 'json' | 'stream';

/** The best format that the client accepts, the first one among equals; undefined if there is none (406). */
export function negotiate(accept: string | undefined, offer: Offer): ReplyFormat | undefined {
  if (accept === undefined || accept === '*/*' || accept === 'application/json') {
    return offer === 'stream' ? 'ndjson' : 'json';
  }
  const ranges = parseAccept(accept);
  if (ranges.length === 0) return offer === 'stream' ? 'ndjson' : 'json';
  let best: ReplyFormat | undefined;
  let bestQuality = 0;
  for (const [type, format] of offer === 'stream' ? STREAM : offer === 'json' ? JSON_ONLY : UNARY) {
    const quality = qualityOf(type, ranges);
    if (quality > bestQuality) {
      best = format;
      bestQuality = quality;
    }
  }
  return best;
}

/** The content type for newline-delimited JSON that this client accepts. */
export function streamContentType(accept: string | undefined): string {
  return accept?.includes('application/x-ndjson') ? 'application/x-ndjson' : 'application/json';
}

function parseAccept(accept: string): Range[] {
  const ranges: Range[] = [];
  for (const part of accept.split(',')) {
    const [type = '', ...parameters] = part.split(';');
    const name = type.trim().toLowerCase();
    if (name === '') continue;
    ranges.push({ type: name, quality: parameterQuality(parameters) });
  }
  return ranges;
}

function parameterQuality(parameters: readonly string[]): number {
  for (const parameter of parameters) {
    const match = /^\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*$/i.exec(parameter);
    if (match !== null) return Math.min(1, Number(match[1]));
  }
  return 1;
}

/** The quality of the most specific matching range. */
function qualityOf(type: string, ranges: readonly Range[]): number {
  const group = `${type.slice(0, type.indexOf('/'))}/*`;
  for (const wanted of [type, group, '*/*']) {
    const range = ranges.find((candidate) => candidate.type === wanted);
    if (range !== undefined) return range.quality;
  }
  return 0;
}

/** Whether an `Accept-Encoding` header accepts gzip. */
export function acceptsGzip(header: string | undefined): boolean {
  if (header === undefined) return false;
  if (header === 'gzip') return true;
  const ranges = parseAccept(header);
  const range =
    ranges.find((candidate) => candidate.type === 'gzip') ?? ranges.find((candidate) => candidate.type === '*');
  return range !== undefined && range.quality > 0;
}

/**
 * The encoding of a request body with this Content-Type; undefined if it is not supported (415). The default is JSON.
 */
export function bodyEncodingOf(contentType: string | undefined): 'json' | 'protobuf' | undefined {
  if (contentType === undefined || contentType === 'application/json') return 'json';
  const [type = '', ...parameters] = contentType.split(';');
  const name = type.trim().toLowerCase();
  if (PROTOBUF_TYPES.has(name)) return 'protobuf';
  if (name !== 'application/json' && !/^application\/[a-z0-9!#$&^_.-]+\+json$/.test(name)) return undefined;
  for (const parameter of parameters) {
    const match = /^\s*charset\s*=\s*"?([^"\s]*)"?\s*$/i.exec(parameter);
    if (match !== null && match[1]!.toLowerCase() !== 'utf-8') return undefined;
  }
  return 'json';
}
