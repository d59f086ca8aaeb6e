import type {
  GetMeRequest,
  LoginReply,
  LoginRequest,
  RegisterRequest,
  UpdateMeRequest,
  User as UserMessage,
  UserServiceService,
} from '../../gen/user/v1/user.js';
import type { User, UserChange, UserUsecase } from '../biz/user/user.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { addressOf, userOf } from './caller.js';

export class UserService implements ServiceOf<typeof UserServiceService> {
  constructor(private readonly users: UserUsecase) {}

  async register({ username, password, firstName, lastName }: RegisterRequest): Promise<UserMessage> {
    return userReply(await this.users.register({ username, password, firstName, lastName }));
  }

  async login({ username, password }: LoginRequest, ctx: CallContext): Promise<LoginReply> {
    const { userId, token } = await this.users.login(username, { password, address: addressOf(ctx) });
    return { token: token?.text ?? '', expiresAt: token?.expiresAt, userId };
  }

  async getMe(_: GetMeRequest, ctx: CallContext): Promise<UserMessage> {
    return userReply(await this.users.get(userOf(ctx)));
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
