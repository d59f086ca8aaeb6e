import { purchaseTokenContract } from '../contract/purchase-token.js';
import { useServers } from '../support/servers.js';

describe('On one Redis', () => {
  const servers = useServers('postgres', 'redis');
  purchaseTokenContract('on Redis', servers, () => ({ addr: servers.redisUrl }));
});
