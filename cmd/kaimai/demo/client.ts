import { signPayment } from '../../../internal/biz/order/payment-signature.js';
import { errorText } from '../../../internal/kratos/errors/error-text.js';
import { type ClientTls, type JsonReply, type Send, sender } from './send.js';

/** Secrets of the product process; absent ones are not configured there. */
export interface DemoSecrets {
  /** `auth.admin_token` */
  readonly adminToken?: string | undefined;
  /** `auth.bff_token` */
  readonly bffToken?: string | undefined;
  /** `payment.secret` */
  readonly paymentSecret?: string | undefined;
}

/** An error that the API returned. */
export class ApiError extends Error {
  /** Empty if the reply is not one of Kaimai. */
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(message: string, body: string) {
    super(message);
    let parsed: Partial<Pick<ApiError, 'reason' | 'metadata'>> | undefined;
    try {
      parsed = JSON.parse(body);
    } catch {
      // The answer of a proxy.
    }
    this.reason = parsed?.reason ?? '';
    this.metadata = parsed?.metadata ?? {};
  }
}

/** A JSON client as a BFF would write it. */
export class DemoClient {
  private readonly product: string;
  private readonly send: Send;

  /** @param product `host:port` or URL of its JSON address */
  constructor(
    product: string,
    private readonly secrets: DemoSecrets = {},
    tls: ClientTls = {},
  ) {
    this.send = sender(tls);
    this.product = baseUrl(product);
  }

  /** Calls as an operator. */
  admin<T>(method: string, path: string, body?: unknown): Promise<T> {
    const { adminToken } = this.secrets;
    const identity = adminToken ? { 'x-admin-token': adminToken } : { 'x-user-role': 'ADMIN', ...this.bffHeader() };
    return this.call(method, path, identity, textOf(body));
  }

  /** Calls as a user. */
  user<T>(userId: string, method: string, path: string, body?: unknown): Promise<T> {
    return this.call(method, path, { 'x-user-id': userId, ...this.bffHeader() }, textOf(body));
  }

  /** Reports a payment, as the payment provider does. */
  pay<T>(orderId: string, notice: unknown): Promise<T> {
    const { paymentSecret } = this.secrets;
    const body = JSON.stringify(notice);
    const timestamp = String(Math.floor(Date.now() / 1_000));
    const signed = paymentSecret && {
      'x-payment-timestamp': timestamp,
      'x-payment-signature': signPayment(paymentSecret, { timestamp, orderId: BigInt(orderId), body }),
    };
    return this.call('POST', `/v1/orders/${orderId}/paid`, signed || {}, body);
  }

  private bffHeader(): Record<string, string> {
    const { bffToken } = this.secrets;
    return bffToken ? { 'x-bff-token': bffToken } : {};
  }

  private async call<T>(method: string, path: string, headers: Record<string, string>, body?: string): Promise<T> {
    let reply: JsonReply;
    try {
      reply = await this.send(
        method,
        `${this.product}${path}`,
        { 'content-type': 'application/json', ...headers },
        body,
      );
    } catch (err) {
      throw new Error(`${this.product} does not answer (${errorText(err)}). Start Kaimai with \`make run\``);
    }
    const { status, text } = reply;
    if (status >= 300) throw new ApiError(`${method} ${path}: HTTP ${status} ${text}`, text);
    return JSON.parse(text) as T;
  }
}

function textOf(body: unknown): string | undefined {
  return body === undefined ? undefined : JSON.stringify(body);
}

function baseUrl(address: string): string {
  return address.includes('://') ? address.replace(/\/$/, '') : `http://${address}`;
}
