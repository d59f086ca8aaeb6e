import 'reflect-metadata';
import cluster from 'node:cluster';
import { NestFactory } from '@nestjs/core';
import { type MicroserviceOptions, Transport } from '@nestjs/microservices';
import { AppModule } from './app.module.js';
import { settings } from './settings.js';

async function bootstrap() {
  const app = await NestFactory.create(AppModule, { logger: ['error', 'warn'] });
  app.connectMicroservice<MicroserviceOptions>({
    transport: Transport.GRPC,
    options: {
      package: 'seckill.v1',
      protoPath: settings.proto,
      url: settings.addr,
      loader: { longs: String, enums: String, defaults: true, oneofs: true },
    },
  });
  app.enableShutdownHooks();
  await app.startAllMicroservices();
  const [host, port] = settings.http.split(':');
  await app.listen(Number(port), host);
}

if (cluster.isPrimary && settings.workers > 1) {
  for (let i = 0; i < settings.workers; i++) cluster.fork();
  process.once('SIGTERM', () => cluster.disconnect(() => process.exit(0)));
} else {
  await bootstrap();
}
