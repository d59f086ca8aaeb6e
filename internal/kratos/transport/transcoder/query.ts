import { invalidArgument } from './transcode-error.js';

/**
 * Parses a raw query string. `+` is a space, as in forms.
 * @throws TranscodeError if an encoding is invalid or there are too many parameters
 */
export function parseQuery(query: string, maxParameters: number): [name: string, value: string][] {
  const parameters: [string, string][] = [];
  let from = 0;
  while (from <= query.length) {
    const stop = query.indexOf('&', from);
    const to = stop < 0 ? query.length : stop;
    if (to > from) {
      if (parameters.length === maxParameters) throw invalidArgument('', `more than ${maxParameters} query parameters`);
      const equals = query.indexOf('=', from);
      const nameEnd = equals < 0 || equals > to ? to : equals;
      const name = decode(query.slice(from, nameEnd));
      parameters.push([name, nameEnd === to ? '' : decode(query.slice(nameEnd + 1, to))]);
    }
    from = to + 1;
  }
  return parameters;
}

function decode(text: string): string {
  const spaced = text.includes('+') ? text.replaceAll('+', ' ') : text;
  if (!spaced.includes('%')) return spaced;
  try {
    return decodeURIComponent(spaced);
  } catch {
    throw invalidArgument('', `the query has an invalid percent-encoding: ${JSON.stringify(text.slice(0, 64))}`);
  }
}
