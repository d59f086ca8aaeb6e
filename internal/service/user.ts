import { isInvalidCredentials, isTooManyAttempts } from '../../gen/user/v1/errors.js';
import type {
  GetMeRequest,
  ListTokenRevocationsReply,
  ListTokenRevocationsRequest,
  LoginReply,
  LoginRequest,
  RegisterRequest,
  UpdateMeRequest,
  User as UserMessage,
  UserServiceService,
} from '../../gen/user/v1/user.js';
import type { User, UserChange, UserUsecase } from '../biz/user/user.js';
import { type Count, Metrics } from '../kratos/metrics/metrics.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { addressOf, userOf } from './caller.js';

const LOGIN_OUTCOMES = ['ok', 'wrong_credentials', 'too_many_attempts', 'failed'] as const;
type LoginOutcome = (typeof LOGIN_OUTCOMES)[number];

function loginOutcomeOf(err: unknown): LoginOutcome {
  if (isInvalidCredentials(err)) return 'wrong_credentials';
  return isTooManyAttempts(err) ? 'too_many_attempts' : 'failed';
}

export class UserService implements ServiceOf<typeof UserServiceService> {
  private readonly logins: Readonly<Record<LoginOutcome, Count>>;

  constructor(
    private readonly users: UserUsecase,
    metrics: Metrics = new Metrics(),
  ) {
    this.logins = metrics.counts(
      'logins_total',
      'Logins by outcome: ok, wrong_credentials, too_many_attempts, failed (for another reason).',
      'outcome',
      LOGIN_OUTCOMES,
    );
  }

  async register({ username, password, firstName, lastName }: RegisterRequest): Promise<UserMessage> {
    return userReply(await this.users.register({ username, password, firstName, lastName }));
  }

  async login({ username, password }: LoginRequest, ctx: CallContext): Promise<LoginReply> {
    try {
      const { userId, token } = await this.users.login(username, { password, address: addressOf(ctx) });
      this.logins.ok.add();
      return { token: token?.text ?? '', expiresAt: token?.expiresAt, userId };
    } catch (err) {
      this.logins[loginOutcomeOf(err)].add();
      throw err;
    }
  }

  async getMe(_: GetMeRequest, ctx: CallContext): Promise<UserMessage> {
    return userReply(await this.users.get(userOf(ctx)));
  }

  async listTokenRevocations({ withinMs }: ListTokenRevocationsRequest): Promise<ListTokenRevocationsReply> {
    return { revocations: [...(await this.users.listTokenRevocations(Number(withinMs)))] };
  }

  async updateMe(req: UpdateMeRequest, ctx: CallContext): Promise<UserMessage> {
    const { version, firstName, lastName, password, newPassword } = req;
    const change: UserChange = {
      ...(firstName === undefined ? {} : { firstName }),
      ...(lastName === undefined ? {} : { lastName }),
      ...(newPassword === undefined
        ? {}
        : { newPassword: { text: newPassword, old: { password: password ?? '', address: addressOf(ctx) } } }),
    };
    return userReply(await this.users.update(userOf(ctx), version, change));
  }
}

function userReply(user: User): UserMessage {
  return {
    id: user.id,
    username: user.username,
    firstName: user.firstName,
    lastName: user.lastName,
    version: user.version,
    createdAt: user.createdAt,
    updatedAt: user.updatedAt,
  };
}
