import type { IncomingMessage } from 'node:http';
import type { CorsOptions } from './types.js';

/** Cross-origin resource sharing: which pages of other origins may call. */
export class Cors {
  private readonly anyOrigin: boolean;
  private readonly origins: ReadonlySet<string>;

  /** @throws Error if any origin would be allowed together with credentials */
  constructor(private readonly options: CorsOptions) {
    this.anyOrigin = options.origins.includes('*');
    this.origins = new Set(options.origins);
    if (this.anyOrigin && options.credentials) throw new Error('cors: origin "*" cannot be combined with credentials');
  }

  static isPreflight(req: IncomingMessage): boolean {
    return (
      req.method === 'OPTIONS' &&
      req.headers.origin !== undefined &&
      req.headers['access-control-request-method'] !== undefined
    );
  }

  /** Headers of a reply, alternating names and values. */
  headers(req: IncomingMessage): string[] {
    const headers = this.anyOrigin ? [] : ['vary', 'Origin'];
    const allowed = this.allowedOrigin(req);
    if (allowed === undefined) return headers;
    headers.push('access-control-allow-origin', allowed);
    if (this.options.credentials) headers.push('access-control-allow-credentials', 'true');
    const exposed = this.options.exposedHeaders;
    if (exposed?.length) headers.push('access-control-expose-headers', exposed.join(', '));
    return headers;
  }

  /** Headers of the reply to a preflight request for a path with these methods. */
  preflightHeaders(req: IncomingMessage, methods: readonly string[]): string[] {
    const headers = this.headers(req);
    if (this.allowedOrigin(req) === undefined) return headers;
    const wanted = req.headers['access-control-request-headers'];
    const allowed = this.options.allowedHeaders?.join(', ') ?? wanted;
    headers.push('access-control-allow-methods', methods.join(', '));
    if (allowed !== undefined) headers.push('access-control-allow-headers', allowed);
    headers.push('access-control-max-age', String(this.options.maxAgeSeconds ?? 600));
    return headers;
  }

  private allowedOrigin(req: IncomingMessage): string | undefined {
    const { origin } = req.headers;
    if (origin === undefined) return undefined;
    if (this.anyOrigin) return '*';
    return this.origins.has(origin) ? origin : undefined;
  }
}
