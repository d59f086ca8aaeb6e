import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { fileURLToPath } from 'node:url';
import { type DocumentOptions, openApiDocument, toYaml } from './document.js';

/** Copied next to this module by `make build`. */
const PAGE = fileURLToPath(new URL('./docs/page.html', import.meta.url));

interface Content {
  readonly type: string;
  readonly text: string;
  readonly policy?: string;
}

/**
 * Serves `/openapi.yaml` and `/openapi.json`, generated from the protos on first use, and `/docs`, a page that shows
 * them
 * without loading anything from other hosts. Returns true if the request was for one of these paths.
 */
export function docsRoute(options: DocumentOptions): (req: IncomingMessage, res: ServerResponse) => boolean {
  const made = new Map<string, Content>();
  const content = (path: string): Content => {
    const known = made.get(path) ?? make(path, options);
    made.set(path, known);
    return known;
  };
  return (req, res) => {
    const path = (req.url ?? '').split('?', 1)[0] ?? '';
    if (path !== '/openapi.yaml' && path !== '/openapi.json' && path !== '/docs') return false;
    if (req.method !== 'GET' && req.method !== 'HEAD') {
      res.writeHead(405, { allow: 'GET, HEAD', 'content-type': 'application/json' });
      res.end('{"code":405,"reason":"METHOD_NOT_ALLOWED","message":"only GET and HEAD are allowed","metadata":{}}');
      return true;
    }
    const { type, text, policy } = content(path);
    res.writeHead(200, {
      'content-type': type,
      'content-length': Buffer.byteLength(text),
      'cache-control': 'no-cache',
      'x-content-type-options': 'nosniff',
      ...(policy === undefined ? {} : { 'content-security-policy': policy, 'referrer-policy': 'no-referrer' }),
    });
    res.end(req.method === 'HEAD' ? undefined : text);
    return true;
  };
}

function make(path: string, options: DocumentOptions): Content {
  switch (path) {
    case '/openapi.yaml':
      return { type: 'application/yaml', text: toYaml(openApiDocument(options)) };
    case '/openapi.json':
      return { type: 'application/json', text: JSON.stringify(openApiDocument(options)) };
    default: {
      const text = readFileSync(PAGE, 'utf8');
      return { type: 'text/html; charset=utf-8', text, policy: policyOf(text) };
    }
  }
}

/** Allows the page to run its own script and to call its own origin, and nothing else. */
function policyOf(page: string): string {
  const hashes = (tag: string) =>
    [...page.matchAll(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, 'g'))]
      .map(([, text = '']) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`)
      .join(' ');
  return [
    "default-src 'none'",
    `script-src ${hashes('script')}`,
    `style-src ${hashes('style')}`,
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ].join('; ');
}
