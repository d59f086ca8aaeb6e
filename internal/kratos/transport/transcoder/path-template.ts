/** A segment of a path: literal text, `*` for one, `**` for any number of them. */
export type Segment =
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'one' }
  | { readonly kind: 'rest' };

/** A variable and the segments that it matches. */
export interface PathVariable {
  /** Proto field names, outermost first. */
  readonly fieldPath: readonly string[];
  /** Index of its first segment. */
  readonly start: number;
  /** Index after its last one. */
  readonly end: number;
  /** Matches `**` or more than one segment, so reserved characters stay encoded. */
  readonly multiSegment: boolean;
}

export interface PathTemplate {
  readonly source: string;
  readonly segments: readonly Segment[];
  readonly variables: readonly PathVariable[];
  /** The part after the `:`; empty if there is none. */
  readonly verb: string;
}

const IDENT = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Characters of a URL path segment, plain or percent-encoded. */
const LITERAL = /^(?:[A-Za-z0-9\-._~!$&'()+,;=:@]|%[0-9A-Fa-f]{2})+$/;

/**
 * Parses a path template by the grammar of google/api/http.proto:
 * `"/" Segment { "/" Segment } [ ":" verb ]`, Segment = `*` | `**` | literal | `{` field.path [ `=` segments ] `}`.
 * Beyond the grammar, and like in grpc-gateway, more segments may follow `**`.
 * @throws Error naming the mistake
 */
export function parsePathTemplate(source: string): PathTemplate {
  const fail = (what: string): Error => new Error(`path template ${JSON.stringify(source)}: ${what}`);
  if (!source.startsWith('/')) throw fail('must begin with "/"');
  const segments: Segment[] = [];
  const variables: PathVariable[] = [];
  let verb = '';
  let at = 1;

  const addSegment = (text: string): void => {
    if (text === '**' && segments.some((other) => other.kind === 'rest')) throw fail('more than one "**"');
    if (text === '*') segments.push({ kind: 'one' });
    else if (text === '**') segments.push({ kind: 'rest' });
    else if (LITERAL.test(text)) segments.push({ kind: 'literal', text: decodeURIComponent(text) });
    else throw fail(text === '' ? 'empty segment' : `bad segment ${JSON.stringify(text)}`);
  };

  if (source === '/') return { source, segments, variables, verb };
  for (;;) {
    if (source[at] === '{') {
      const close = source.indexOf('}', at);
      if (close < 0) throw fail('"{" without "}"');
      const [name = '', pattern, ...rest] = source.slice(at + 1, close).split('=');
      if (rest.length > 0) throw fail('more than one "=" in a variable');
      const fieldPath = name.split('.');
      if (!fieldPath.every((part) => IDENT.test(part))) throw fail(`bad field path ${JSON.stringify(name)}`);
      if (variables.some((other) => other.fieldPath.join('.') === name)) throw fail(`${name} is bound twice`);
      const start = segments.length;
      for (const part of (pattern ?? '*').split('/')) addSegment(part);
      const own = segments.slice(start);
      variables.push({
        fieldPath,
        start,
        end: segments.length,
        multiSegment: own.length > 1 || own[0]?.kind === 'rest',
      });
      at = close + 1;
    } else {
      const stop = /[/{}]/.exec(source.slice(at));
      let text = stop === null ? source.slice(at) : source.slice(at, at + stop.index);
      at += text.length;
      if (stop === null && text.includes(':')) {
        const colon = text.indexOf(':');
        verb = text.slice(colon + 1);
        text = text.slice(0, colon);
        if (!LITERAL.test(verb)) throw fail('bad verb');
        verb = decodeURIComponent(verb);
      }
      addSegment(text);
    }
    if (at >= source.length) break;
    if (source[at] === ':') {
      verb = source.slice(at + 1);
      if (!LITERAL.test(verb)) throw fail('bad verb');
      verb = decodeURIComponent(verb);
      break;
    }
    if (source[at] !== '/') throw fail(`unexpected ${JSON.stringify(source[at])}`);
    at++;
  }
  return { source, segments, variables, verb };
}

/** Characters that RFC 6570 reserves, percent-encoded. */
const RESERVED = /%(?:2[1346789ABCF]|3[ABDF]|40|5[BD])/gi;

/** Fully decodes one segment: `a%2Fb` is `a/b`. Undefined if it is not valid UTF-8. */
export function decodeSegment(text: string): string | undefined {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** Decodes everything except reserved characters, for variables with several segments. */
export function decodeKeepingReserved(text: string, onlySlash: boolean): string | undefined {
  if (!text.includes('%')) return text;
  const kept = onlySlash ? /%2F/gi : RESERVED;
  let out = '';
  let from = 0;
  for (const match of text.matchAll(kept)) {
    const part = decodeSegment(text.slice(from, match.index));
    if (part === undefined) return undefined;
    out += part + match[0];
    from = match.index + match[0].length;
  }
  const tail = decodeSegment(text.slice(from));
  return tail === undefined ? undefined : out + tail;
}
