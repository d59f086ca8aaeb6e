import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { PaymentSimulator, PayPageButton, SimulatedPayment } from '../biz/order/payment-simulator.js';
import type { Logger } from '../kratos/log/logger.js';
import type { PlainRoute } from './plain-route.js';

const PATH = /^\/simulator\/pay\/([1-9][0-9]{0,18})$/;
const FORM_MAX_BYTES = 1_024;
const STYLE = 'body{font:16px sans-serif;max-width:24em;margin:4em auto}button{margin-right:.5em;padding:.4em 1em}';
const POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
  "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
].join('; ');

/**
 * The pay page of the simulated payment providers, `/simulator/pay/{payment id}`, with a button for each thing that a
 * buyer may do. Outside production only.
 */
export function payPageRoute(simulator: PaymentSimulator, logger: Logger): PlainRoute {
  return (req, res) => {
    const found = PATH.exec((req.url ?? '').split('?', 1)[0] ?? '');
    const sessionId = found?.[1];
    if (sessionId === undefined) return false;
    serve(simulator, BigInt(sessionId), req).then(
      ({ status, text }) => reply(res, status, text),
      (err: unknown) => {
        logger.error('the pay page failed', { err });
        reply(res, 500, page('The pay page failed.', ''));
      },
    );
    return true;
  };
}

interface Reply {
  readonly status: number;
  readonly text: string;
}

async function serve(simulator: PaymentSimulator, sessionId: bigint, req: IncomingMessage): Promise<Reply> {
  if (req.method === 'GET' || req.method === 'HEAD') return shown(await simulator.find(sessionId));
  if (req.method !== 'POST') return { status: 405, text: page('Only GET and POST are allowed.', '') };
  const button = buttonOf(await readForm(req));
  if (!button) return { status: 400, text: page('The form names no button: pay, decline or close.', '') };
  return shown(await simulator.press(sessionId, button), button);
}

function shown(payment: SimulatedPayment | undefined, pressed?: PayPageButton): Reply {
  if (!payment) return { status: 404, text: page('There is no such payment.', '') };
  const { orderId, amountFen, status, provider, expiresAt } = payment;
  const yuan = `¥${amountFen / 100n}.${String(amountFen % 100n).padStart(2, '0')}`;
  const title = `${yuan} for order ${orderId}, by ${escaped(provider)}: ${status}`;
  if (status !== 'OPEN') return { status: 200, text: page(title, '') };
  const declined = pressed === 'decline' ? '<p>The payment was declined. Try again.</p>' : '';
  const buttons = ['pay', 'decline', 'close'].map((b) => `<button name="button" value="${b}">${b}</button>`).join('');
  const until = `<p>It can be paid until ${expiresAt.toISOString()}.</p>`;
  return { status: 200, text: page(title, `${declined}${until}<form method="post">${buttons}</form>`) };
}

/** @param title HTML */
function page(title: string, body: string): string {
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Simulated payment</title><style>${STYLE}</style>
<h1>Simulated payment</h1><p>${title}</p>${body}</html>\n`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

function buttonOf(form: string): PayPageButton | undefined {
  const button = new URLSearchParams(form).get('button');
  return button === 'pay' || button === 'decline' || button === 'close' ? button : undefined;
}

/** The body, cut off where it is longer than any form of this page. */
async function readForm(req: IncomingMessage): Promise<string> {
  let form = '';
  for await (const chunk of req.setEncoding('utf8') as AsyncIterable<string>) {
    form += chunk;
    if (form.length > FORM_MAX_BYTES) return '';
  }
  return form;
}

function reply(res: ServerResponse, status: number, text: string): void {
  res.writeHead(status, {
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'content-security-policy': POLICY,
    'referrer-policy': 'no-referrer',
  });
  res.end(text);
}
