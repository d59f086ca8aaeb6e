import type { Registry } from 'prom-client';
import { type Token, token } from './token.js';

/** The process's metrics. It is a token because prom-client's class is generic. */
export const METRICS: Token<Registry> = token('Metrics');
