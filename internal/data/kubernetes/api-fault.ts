import { STATUS_CODES } from 'node:http';
import { ApiException } from '@kubernetes/client-node';
import { errorText } from '../../kratos/errors/error-text.js';

/** What a failed request to the API server means. */
export type ApiFault =
  /** 409: an object has this name, or the object was changed meanwhile. */
  | { readonly kind: 'conflict'; readonly reason: string }
  | { readonly kind: 'notFound'; readonly reason: string }
  /** The API server will never accept this object: its spec is invalid, a quota is used up, or a policy forbids it. */
  | { readonly kind: 'rejected'; readonly reason: string }
  /** 401, or 403 for this account: an operator has to change the credentials or the role. */
  | { readonly kind: 'forbidden'; readonly reason: string }
  /** 429 beyond the retry budget: nothing was done. */
  | { readonly kind: 'throttled'; readonly reason: string }
  /** 5xx: the request may have been carried out. */
  | { readonly kind: 'failed'; readonly reason: string; readonly retryAfterMs: number | undefined }
  /** No answer, or half of one: the request may have been carried out. */
  | { readonly kind: 'unanswered'; readonly reason: string };

/** What the API server says of an object that it rejects with 403 for its own sake, and not for the caller's role. */
const REJECTED_OBJECT = /exceeded quota|denied the request|violates PodSecurity|forbidden: (maximum|minimum)/i;

/** The error text of a quota, a policy or an invalid spec, where a controller of the cluster met it. */
export function isRejection(message: string): boolean {
  return REJECTED_OBJECT.test(message) || / is invalid: /.test(message);
}

/** @throws `err` itself if it is neither an answer of the API server nor a connection that failed */
export function faultOf(err: unknown): ApiFault {
  if (!(err instanceof ApiException)) {
    if (!isConnectionFailure(err)) throw err;
    return { kind: 'unanswered', reason: `no answer of the API server: ${causeText(err)}` };
  }
  const { code, body, headers } = err as ApiException<unknown>;
  const reason = `${code} ${messageOf(body) || (STATUS_CODES[code] ?? 'without a message')}`;
  switch (code) {
    case 400:
    case 422:
      return { kind: 'rejected', reason };
    case 401:
      return { kind: 'forbidden', reason };
    case 403:
      return { kind: REJECTED_OBJECT.test(reason) ? 'rejected' : 'forbidden', reason };
    case 404:
      return { kind: 'notFound', reason };
    case 409:
      return { kind: 'conflict', reason };
    case 429:
      return { kind: 'throttled', reason };
    default:
      if (code >= 500) return { kind: 'failed', reason, retryAfterMs: retryAfterMs(headers) };
      return { kind: 'rejected', reason };
  }
}

function retryAfterMs(headers: Readonly<Record<string, string>>): number | undefined {
  const seconds = Number(headers['retry-after']);
  return Number.isFinite(seconds) && headers['retry-after'] !== undefined ? seconds * 1_000 : undefined;
}

/** The message of a metav1.Status, which the client hands over as text or as an object; of some 401 it hands over nothing. */
function messageOf(body: unknown): string {
  const text = typeof body === 'string' ? body : body === undefined ? '' : JSON.stringify(body);
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    if (typeof message === 'string') return message;
  } catch {
    // A proxy or a load balancer answered.
  }
  return text.slice(0, 500);
}

/** What undici's fetch throws: a TypeError for the connection, a DOMException for the timeout, a SyntaxError for half a body. */
function isConnectionFailure(err: unknown): boolean {
  return (
    err instanceof SyntaxError ||
    (err instanceof TypeError && /fetch failed|terminated|other side closed/i.test(err.message)) ||
    (err instanceof DOMException && err.name === 'TimeoutError')
  );
}

function causeText(err: unknown): string {
  const { cause } = err as { cause?: unknown };
  return cause === undefined ? errorText(err) : errorText(cause);
}
