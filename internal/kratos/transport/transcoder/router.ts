import { decodeKeepingReserved, decodeSegment, type PathTemplate } from './path-template.js';

/** A matching route, with the values of its template's variables in their order. */
export interface Match<Route> {
  readonly route: Route;
  readonly values: readonly string[];
}

export type Found<Route> =
  | { readonly kind: 'match'; readonly match: Match<Route> }
  /** The path exists, but not with this method. */
  | { readonly kind: 'wrong-method'; readonly allow: readonly string[] }
  | { readonly kind: 'not-found' }
  /** A percent-encoding in the path is not valid UTF-8. */
  | { readonly kind: 'bad-path' };

interface Leaf<Route> {
  readonly template: PathTemplate;
  readonly route: Route;
  readonly label: string;
}

class Node<Route> {
  readonly literals = new Map<string, Node<Route>>();
  one: Node<Route> | undefined;
  /** Routes that end here, by verb and HTTP method. */
  readonly ends = new Map<string, Map<string, Leaf<Route>>>();
  /** The node after a `**`. */
  rest: Node<Route> | undefined;
}

const NO_VALUES: readonly string[] = [];

/**
 * Finds routes by path. From left to right, a literal segment takes precedence over `*`, and `*` over `**`; a template
 * with
 * a verb takes precedence over one without. The registration order does not matter; ambiguous routes are rejected.
 */
export class Router<Route> {
  private readonly root = new Node<Route>();
  private readonly verbs = new Set<string>();
  /** Templates without variables, by their path: nothing has precedence over them, and most requests match one. */
  private readonly fixed = new Map<string, Map<string, Found<Route>>>();

  constructor(private readonly fullyDecodeReserved: boolean) {}

  /** @throws Error if another route matches the same requests */
  add(httpMethod: string, template: PathTemplate, route: Route, label: string): void {
    let node = this.root;
    for (const segment of template.segments) {
      if (segment.kind === 'rest') {
        node.rest ??= new Node();
        node = node.rest;
      } else if (segment.kind === 'one') {
        node.one ??= new Node();
        node = node.one;
      } else {
        let next = node.literals.get(segment.text);
        if (next === undefined) {
          next = new Node();
          node.literals.set(segment.text, next);
        }
        node = next;
      }
    }
    let byMethod = node.ends.get(template.verb);
    if (byMethod === undefined) {
      byMethod = new Map();
      node.ends.set(template.verb, byMethod);
    }
    const other = byMethod.get(httpMethod);
    if (other !== undefined) {
      throw new Error(
        `ambiguous routes: ${httpMethod} ${template.source} of ${label} and ` +
          `${httpMethod} ${other.template.source} of ${other.label} take the same requests`,
      );
    }
    const leaf = { template, route, label };
    byMethod.set(httpMethod, leaf);
    if (template.verb !== '') this.verbs.add(template.verb);
    if (template.segments.every((segment) => segment.kind === 'literal') && !/[%{*]/.test(template.source)) {
      let fixed = this.fixed.get(template.source);
      if (fixed === undefined) {
        fixed = new Map();
        this.fixed.set(template.source, fixed);
      }
      fixed.set(httpMethod, { kind: 'match', match: { route, values: NO_VALUES } });
    }
  }

  /** @param path as in the request line, without the query */
  find(httpMethod: string, path: string): Found<Route> {
    const fixed = this.fixed.get(path)?.get(httpMethod);
    if (fixed !== undefined) return fixed;
    if (!path.startsWith('/')) return { kind: 'not-found' };
    const raw = path === '/' ? [] : path.slice(1).split('/');
    const decoded: string[] = [];
    for (const segment of raw) {
      const text = decodeSegment(segment);
      if (text === undefined) return { kind: 'bad-path' };
      decoded.push(text);
    }
    for (const method of httpMethod === 'HEAD' ? ['HEAD', 'GET', '*'] : [httpMethod, '*']) {
      const ending = this.search(raw, decoded, (leaves) => leaves.get(method));
      if (ending !== undefined) return this.matched(ending);
    }
    const allow = new Set<string>();
    this.search(raw, decoded, (leaves) => {
      for (const method of leaves.keys()) allow.add(method);
      return undefined;
    });
    if (allow.size === 0) return { kind: 'not-found' };
    if (allow.has('GET')) allow.add('HEAD');
    allow.add('OPTIONS');
    return { kind: 'wrong-method', allow: [...allow].sort() };
  }

  /** Tries the longest verb at the end of the path first, then none. */
  private search(
    raw: readonly string[],
    decoded: readonly string[],
    pick: (leaves: Map<string, Leaf<Route>>) => Leaf<Route> | undefined,
  ): Ending<Route> | undefined {
    const last = raw.at(-1);
    if (last !== undefined && this.verbs.size > 0) {
      // Searched in the raw text, because an encoded colon is part of a value.
      for (let colon = last.indexOf(':'); colon >= 0; colon = last.indexOf(':', colon + 1)) {
        const verb = decodeSegment(last.slice(colon + 1));
        if (verb === undefined || !this.verbs.has(verb)) continue;
        const rest = last.slice(0, colon);
        const cut = [...decoded.slice(0, -1), decodeSegment(rest)!];
        const leaf = descend(this.root, cut, 0, verb, pick);
        if (leaf !== undefined) return { leaf, raw: [...raw.slice(0, -1), rest], decoded: cut };
      }
    }
    const leaf = descend(this.root, decoded, 0, '', pick);
    return leaf === undefined ? undefined : { leaf, raw, decoded };
  }

  private matched({ leaf, raw, decoded }: Ending<Route>): Found<Route> {
    const { segments, variables } = leaf.template;
    const values: string[] = [];
    // The number of segments that "**" matched, minus one.
    const extra = raw.length - segments.length;
    const restAt = extra === 0 ? segments.length : segments.findIndex((segment) => segment.kind === 'rest');
    for (const { start, end, multiSegment } of variables) {
      const from = start > restAt ? start + extra : start;
      if (multiSegment) {
        const parts = raw.slice(from, end > restAt ? end + extra : end);
        // Cannot fail: each of its segments was decoded before.
        values.push(decodeKeepingReserved(parts.join('/'), this.fullyDecodeReserved)!);
      } else {
        values.push(decoded[from]!);
      }
    }
    return { kind: 'match', match: { route: leaf.route, values } };
  }
}

/** The result of a search, with the segments without the verb. */
interface Ending<Route> {
  readonly leaf: Leaf<Route>;
  readonly raw: readonly string[];
  readonly decoded: readonly string[];
}

function descend<Route>(
  node: Node<Route>,
  segments: readonly string[],
  index: number,
  verb: string,
  pick: (leaves: Map<string, Leaf<Route>>) => Leaf<Route> | undefined,
): Leaf<Route> | undefined {
  const segment = segments[index];
  if (segment === undefined) {
    const leaves = node.ends.get(verb);
    const leaf = leaves === undefined ? undefined : pick(leaves);
    if (leaf !== undefined) return leaf;
  } else {
    const literal = node.literals.get(segment);
    if (literal !== undefined) {
      const leaf = descend(literal, segments, index + 1, verb, pick);
      if (leaf !== undefined) return leaf;
    }
    // An empty segment is not a value: /v1/orders/ is not /v1/orders/{id}.
    if (node.one !== undefined && segment !== '') {
      const leaf = descend(node.one, segments, index + 1, verb, pick);
      if (leaf !== undefined) return leaf;
    }
  }
  if (node.rest === undefined) return undefined;
  // From the fewest segments on, so that segments after the "**" are found before the end.
  for (let taken = index; taken <= segments.length; taken++) {
    const leaf = descend(node.rest, segments, taken, verb, pick);
    if (leaf !== undefined) return leaf;
  }
  return undefined;
}
