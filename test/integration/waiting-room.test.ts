import { waitingRoomContract } from '../contract/waiting-room.js';
import { useServers } from '../support/servers.js';

describe('On one Redis', () => {
  const servers = useServers('postgres', 'redis');
  waitingRoomContract('on Redis', servers, () => ({ addr: servers.redisUrl }));
});
