import { QueueLoad } from '../cluster/queue-load.js';
import { useRabbitmqCluster } from '../cluster/rabbitmq.js';

/** The shortest of the rounds of `make test-cluster`. */
describe('a RabbitMQ cluster, in short,', () => {
  const cluster = useRabbitmqCluster();

  it('loses no confirmed message with the leader of the queue', async () => {
    const load = new QueueLoad(cluster().url);
    try {
      await load.start();
      cluster().kill(await cluster().leaderOf(load.rabbit.queue));
      await load.confirmsAgain();
      await load.everyConfirmedArrived();
    } finally {
      await load.stop();
    }
  });
});
