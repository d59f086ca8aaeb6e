import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Token, token } from '../kratos/app/token.js';

/** A route of the JSON listener that is no RPC. @returns whether the request was for it */
export type PlainRoute = (req: IncomingMessage, res: ServerResponse) => boolean;

export const PLAIN_ROUTE: Token<PlainRoute> = token('PlainRoute');
