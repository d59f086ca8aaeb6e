import { withLogin } from './postgres-url.js';

/**
 * The URL with a password that is given apart from it, so that any character may be in it. It takes the place of one in the URL.
 * @param url a URL, several with commas between them, a URL of PostgreSQL with several hosts, or host:port of Redis
 * @param password empty: the URL stays as it is
 */
export function withPassword(url: string, password: string): string {
  if (password === '') return url;
  if (/^postgres(ql)?:/.test(url)) return withLogin(url, { password });
  if (url.includes(','))
    return url
      .split(',')
      .map((one) => withPassword(one.trim(), password))
      .join(',');
  let parsed: URL;
  try {
    parsed = new URL(url.includes('://') ? url : `redis://${url}`);
  } catch {
    // The program that connects reports it.
    return url;
  }
  // The setter of URL leaves % as it is.
  parsed.password = encodeURIComponent(password);
  return parsed.href;
}
