import { UserServiceService } from '../../../gen/user/v1/user.js';
import { type TokenRevocation, TokenRevocationSource } from '../../biz/user/token-revocation.js';
import type { GrpcClient } from '../../kratos/transport/grpc/client.js';

/** Short, because a process that starts waits for the first answer. */
const TIMEOUT_MS = 2_000;

/** Asks the product domain's UserService. */
export class GrpcTokenRevocationSource extends TokenRevocationSource {
  constructor(private readonly product: GrpcClient) {
    super();
  }

  override async listRevocations(withinMs: number): Promise<readonly TokenRevocation[]> {
    const request = { withinMs: BigInt(Math.ceil(withinMs)) };
    const options = { timeoutMs: TIMEOUT_MS, idempotent: true };
    return (await this.product.call(UserServiceService.listTokenRevocations, request, options)).revocations;
  }
}
