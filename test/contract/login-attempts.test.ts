import { useServers } from '../support/servers.js';
import { loginAttemptsContract } from './login-attempts.js';

describe('One Redis', () => {
  const servers = useServers('redis');
  loginAttemptsContract('on Redis', () => ({ addr: servers.redisUrl }));
});
