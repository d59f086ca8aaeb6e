import 'reflect-metadata';
import cluster from 'node:cluster';
import { NestFactory } from '@nestjs/core';
import { type MicroserviceOptions, Transport } from '@nestjs/microservices';
import { AppModule } from './app.module.js';
import { settings } from './settings.js';

async function bootstrap() {
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(AppModule, {
    transport: Transport.GRPC,
    options: {
      package: 'seckill.v1',
      protoPath: settings.proto,
      url: settings.addr,
      loader: { longs: String, enums: String, defaults: true, oneofs: true },
    },
    logger: ['error', 'warn'],
  });
  app.enableShutdownHooks();
  await app.listen();
}

if (cluster.isPrimary && settings.workers > 1) {
  for (let i = 0; i < settings.workers; i++) cluster.fork();
  process.once('SIGTERM', () => cluster.disconnect(() => process.exit(0)));
} else {
  await bootstrap();
}
