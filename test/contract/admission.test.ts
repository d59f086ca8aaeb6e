import { useServers } from '../support/servers.js';
import { admissionContract, memoryAdmissionBackend, redisAdmissionBackend } from './admission.js';

describe('the double of Redis', () => {
  admissionContract('in memory', memoryAdmissionBackend);
  admissionContract('of sales in segments in memory', memoryAdmissionBackend, 4);
});

describe('Redis', () => {
  const servers = useServers('redis');
  admissionContract('on Redis', () => redisAdmissionBackend({ addr: servers.redisUrl }));
  admissionContract('of sales in segments', () => redisAdmissionBackend({ addr: servers.redisUrl }), 4);
});
