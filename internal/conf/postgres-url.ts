/** As libpq names what a connection wants of its server. */
const SESSION_TARGETS = ['any', 'read-write', 'read-only', 'primary', 'standby'] as const;
export type SessionTarget = (typeof SESSION_TARGETS)[number];

export interface PostgresPlace {
  /** The URL of each host, in the order in which they are tried. */
  readonly urls: readonly string[];
  /** undefined: the URL does not say. */
  readonly target: SessionTarget | undefined;
}

const MAX_HOSTS = 16;
const TARGET = 'target_session_attrs';
const URL_PARTS = /^(?<scheme>postgres(?:ql)?:\/\/)(?<login>[^/?#]*@)?(?<hosts>[^/?#@]*)(?<rest>.*)$/s;
const HOST = /^(\[[0-9A-Fa-f:.]+\]|[^:[\]]+)(?::(?<port>\d{1,5}))?$/;

/**
 * Reads a URL of PostgreSQL whose hosts are separated by commas, as libpq writes them:
 *
 *     postgres://user:password@one:5432,two:5433/product_db?target_session_attrs=read-write
 *
 * Any other address, such as that of a Unix socket, is left as it is.
 *
 * @throws Error that says what is wrong, without the password
 */
export function parsePostgresUrl(url: string): PostgresPlace {
  const { scheme, login = '', hosts = '', rest = '' } = URL_PARTS.exec(url)?.groups ?? {};
  if (scheme === undefined) return { urls: [url], target: undefined };
  const query = new URLSearchParams(/\?([^#]*)/.exec(rest)?.[1] ?? '');
  if (query.get('host')?.includes(',')) throw new Error('must name several hosts before the database, not as ?host=');
  const target = query.get(TARGET) ?? undefined;
  if (target !== undefined && !isSessionTarget(target)) {
    throw new Error(`must have one of ${SESSION_TARGETS.join(', ')} as ${TARGET}`);
  }
  const own = rest.replace(new RegExp(`([?&])${TARGET}=[^&#]*(&|$|(?=#))`), (_, before: string, after: string) =>
    after === '&' ? before : '',
  );
  const list = hosts.split(',');
  if (list.length === 1) return { urls: [`${scheme}${login}${hosts}${own}`], target };
  if (list.length > MAX_HOSTS) throw new Error(`must name at most ${MAX_HOSTS} hosts`);
  list.forEach((host, i) => {
    const found = HOST.exec(host);
    if (!found) throw new Error(`has no host as number ${i + 1} of its hosts`);
    const port = found.groups?.port;
    if (port !== undefined && (Number(port) < 1 || Number(port) > 65_535)) {
      throw new Error(`has no port from 1 to 65535 at number ${i + 1} of its hosts`);
    }
  });
  if (new Set(list).size < list.length) throw new Error('must name each of its hosts once');
  return { urls: list.map((host) => `${scheme}${login}${host}${own}`), target };
}

/** The URL with another login; the hosts stay. */
export function withLogin(url: string, login: { readonly user?: string; readonly password: string }): string {
  const { scheme, login: old = '', hosts, rest } = URL_PARTS.exec(url)?.groups ?? {};
  if (scheme === undefined) return url;
  const user = login.user === undefined ? (/^[^:@]*/.exec(old)?.[0] ?? '') : encodeURIComponent(login.user);
  return `${scheme}${user}:${encodeURIComponent(login.password)}@${hosts}${rest}`;
}

function isSessionTarget(text: string): text is SessionTarget {
  return (SESSION_TARGETS as readonly string[]).includes(text);
}
