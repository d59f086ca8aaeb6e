import type { EventEmitter } from 'node:events';
import { constants, type ServerHttp2Session } from 'node:http2';

/** Share of the age by which connections differ, so that those that began together do not reconnect together. */
const SPREAD = 0.1;
/** Calls that cross the frame are served: grpc-js clients repeat a refused call once, at times on the same connection. */
const NO_STREAM_IS_REFUSED = 2 ** 31 - 1;
/** From GOAWAY until an idle connection is closed, when no call can be on its way any more. */
const LEAVE_MS = 1_000;

/**
 * Sends GOAWAY on each connection of a listener at its age, so that its client connects again, perhaps to another
 * replica. Calls in progress are served, and streams stay open until they end. grpc-js's own
 * `grpc.max_connection_age_ms` closes an idle connection together with the frame: a call in transit would be lost.
 */
export function limitSessionAge(listener: EventEmitter, maxAgeMs: number): void {
  listener.on('session', (session: ServerHttp2Session) => {
    let timer = setTimeout(
      () => {
        if (session.closed || session.destroyed) return;
        session.goaway(constants.NGHTTP2_NO_ERROR, NO_STREAM_IS_REFUSED);
        timer = setTimeout(() => session.close(), LEAVE_MS).unref();
      },
      maxAgeMs * (1 - SPREAD * Math.random()),
    ).unref();
    session.once('close', () => clearTimeout(timer));
  });
}
