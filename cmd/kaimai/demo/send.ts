import { readFileSync } from 'node:fs';
import { Agent as HttpAgent, type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';

/** PEM files with which the client connects to an https address; absent ones are not used. */
export interface ClientTls {
  /** The authorities that sign the certificate of the server. Absent: those of Node. */
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

export interface JsonReply {
  readonly status: number;
  readonly text: string;
}

export type Send = (
  method: string,
  url: string,
  headers: Readonly<Record<string, string>>,
  body?: string,
) => Promise<JsonReply>;

const TIMEOUT_MS = 10_000;

/** A sender of requests. fetch() is not used, because it takes no certificates. */
export function sender({ ca, cert, key }: ClientTls): Send {
  const read = (file: string | undefined) => (file ? readFileSync(file) : undefined);
  const http = new HttpAgent({ keepAlive: true });
  const https = new HttpsAgent({
    keepAlive: true,
    ...(ca && ca !== 'system' && { ca: read(ca) }),
    ...(cert && { cert: read(cert), key: read(key) }),
  });
  return (method, url, headers, body) =>
    new Promise((resolve, reject) => {
      const secure = url.startsWith('https:');
      const options: RequestOptions = {
        method,
        headers: { ...headers, ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }) },
        agent: secure ? https : http,
        signal: AbortSignal.timeout(TIMEOUT_MS),
      };
      const receive = (res: IncomingMessage) => {
        let text = '';
        res.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        res.on('error', reject).on('end', () => resolve({ status: res.statusCode ?? 0, text }));
      };
      (secure ? requestHttps : requestHttp)(url, options, receive).on('error', reject).end(body);
    });
}
