import { IdGenerator } from '../../internal/biz/id-generator.js';
import { RabbitPublisher } from '../../internal/data/rabbitmq/publisher.js';
import { RedisPurchaseConsumer } from '../../internal/data/redis/purchase-consumer.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { providers } from '../../internal/kratos/app/wiring.js';
import { CountingIds } from '../../test/support/memory/id-generator.js';
import { describeWiring } from '../../test/support/wiring-suite.js';
import { productModules } from './wire.js';

/** An instance whose constructor did not run: it fails at the first use. */
function unopened<T extends object>({ prototype }: { readonly prototype: T }): T {
  return Object.create(prototype) as T;
}

describeWiring({
  name: 'product',
  modules: productModules,
  unconnected: providers(({ create }) => {
    create(RedisServer, [], () => unopened(RedisServer));
    create(RedisPurchaseConsumer, [], () => unopened(RedisPurchaseConsumer));
    create(RabbitPublisher, [], () => unopened(RabbitPublisher));
    create(IdGenerator, [], () => new CountingIds());
  }),
});
