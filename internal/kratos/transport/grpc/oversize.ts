import { Metadata, type ServerInterceptor, status } from '@grpc/grpc-js';
import { messageTooLarge } from '../../errors/reasons.js';
import { encodeStatus } from '../../errors/rpc-status.js';

/** The metadata key of an encoded google.rpc.Status. */
export const STATUS_DETAILS = 'grpc-status-details-bin';

/**
 * Gives a reason to the RESOURCE_EXHAUSTED with which grpc-js rejects a message that is too large. It sends that status
 * from its innermost call object, below all interceptors, so the method of that object is replaced.
 */
export function oversizeReason(maxBytes: number): ServerInterceptor {
  const error = messageTooLarge(`the message is larger than ${maxBytes} bytes`, {
    metadata: { max_bytes: String(maxBytes) },
  });
  const details = Buffer.from(encodeStatus(error));
  return (_method, call) => {
    const send = call.sendStatus.bind(call);
    call.sendStatus = (given) => {
      // The statuses of handlers have their reason.
      if (given.code !== status.RESOURCE_EXHAUSTED || given.metadata?.get(STATUS_DETAILS).length) return send(given);
      const metadata = new Metadata();
      metadata.set(STATUS_DETAILS, details);
      send({ code: given.code, details: error.message, metadata });
    };
    return call as ReturnType<ServerInterceptor>;
  };
}
