import { Module } from '@nestjs/common';
import { Admission } from './admission.js';
import { SeckillController } from './seckill.controller.js';
import { SeckillService } from './seckill.service.js';

@Module({
  controllers: [SeckillController],
  providers: [Admission, SeckillService],
})
export class AppModule {}
