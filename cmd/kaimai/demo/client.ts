import { errorText } from '../../../internal/kratos/errors/error-text.js';

/** A JSON client as a BFF would write it. */
export class DemoClient {
  private readonly product: string;

  /** @param product `host:port` or URL of its JSON address */
  constructor(product: string) {
    this.product = baseUrl(product);
  }

  /** Calls as an operator. */
  admin<T>(method: string, path: string, body?: unknown): Promise<T> {
    return this.call(method, path, { 'x-user-role': 'ADMIN' }, body);
  }

  /** Calls as a user. */
  user<T>(userId: string, method: string, path: string, body?: unknown): Promise<T> {
    return this.call(method, path, { 'x-user-id': userId }, body);
  }

  /** Calls without an identity, as the payment provider does. */
  anonymous<T>(method: string, path: string, body?: unknown): Promise<T> {
    return this.call(method, path, {}, body);
  }

  private async call<T>(method: string, path: string, headers: Record<string, string>, body?: unknown): Promise<T> {
    let reply: Response;
    try {
      reply = await fetch(`${this.product}${path}`, {
        method,
        headers: { 'content-type': 'application/json', ...headers },
        body: body === undefined ? null : JSON.stringify(body),
        signal: AbortSignal.timeout(10_000),
      });
    } catch (err) {
      const cause = (err as Error).cause;
      const why = errorText(cause ?? err);
      throw new Error(`${this.product} does not answer (${why}). Start Kaimai with \`make run\``);
    }
    const text = await reply.text();
    if (!reply.ok) throw new Error(`${method} ${path}: HTTP ${reply.status} ${text}`);
    return JSON.parse(text) as T;
  }
}

function baseUrl(address: string): string {
  return address.includes('://') ? address.replace(/\/$/, '') : `http://${address}`;
}
