import {
  type CreateProductRequest,
  type CreateProductSpecRequest,
  type GetProductRequest,
  type ListProductsReply,
  type ListProductsRequest,
  type Product as ProductMessage,
  type ProductServiceService,
  type ProductSpec as ProductSpecMessage,
  Product_Status as Status,
  type UpdateProductRequest,
} from '../../gen/product/v1/product.js';
import type { Product, ProductPatch, ProductSpec, ProductUsecase } from '../biz/catalog/product.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { isOperator } from './caller.js';
import { enumName } from './enum-name.js';

export class ProductService implements ServiceOf<typeof ProductServiceService> {
  constructor(private readonly products: ProductUsecase) {}

  async createProductSpec(req: CreateProductSpecRequest): Promise<ProductSpecMessage> {
    return specReply(
      await this.products.createSpec({
        cpu: req.cpu,
        memoryGb: req.memory,
        gpu: req.gpu,
        image: req.image,
        config: req.configJson,
      }),
    );
  }

  async createProduct(req: CreateProductRequest): Promise<ProductMessage> {
    return productReply(
      await this.products.create({
        name: req.name,
        description: req.description,
        status: enumName(Status, req.status) ?? 'DISABLED',
        priceFen: req.priceFen,
        specId: req.specId,
        imageUrl: req.imageUrl,
        sellerId: req.sellerId === '' ? undefined : req.sellerId,
      }),
    );
  }

  async updateProduct(req: UpdateProductRequest): Promise<ProductMessage> {
    const status = req.status === undefined ? undefined : enumName(Status, req.status);
    const patch: ProductPatch = {
      ...(req.name === undefined ? {} : { name: req.name }),
      ...(req.description === undefined ? {} : { description: req.description }),
      ...(req.priceFen === undefined ? {} : { priceFen: req.priceFen }),
      ...(req.imageUrl === undefined ? {} : { imageUrl: req.imageUrl }),
      ...(status === undefined ? {} : { status }),
    };
    return productReply(await this.products.update(req.id, req.version, patch));
  }

  async getProduct(req: GetProductRequest, ctx: CallContext): Promise<ProductMessage> {
    return productReply(await (isOperator(ctx) ? this.products.get(req.id) : this.products.getEnabled(req.id)));
  }

  async listProducts(req: ListProductsRequest, ctx: CallContext): Promise<ListProductsReply> {
    const status = enumName(Status, req.status);
    if (!isOperator(ctx) && status === 'DISABLED') return { products: [], total: 0n };
    const page = await this.products.list(
      { offset: req.offset, limit: req.limit },
      isOperator(ctx) ? status : 'ENABLED',
    );
    return { products: page.items.map(productReply), total: page.total };
  }
}

function specReply(spec: ProductSpec): ProductSpecMessage {
  return {
    id: spec.id,
    cpu: spec.cpu,
    memory: spec.memoryGb,
    gpu: spec.gpu,
    image: spec.image,
    configJson: spec.config,
    createdAt: spec.createdAt,
  };
}

function productReply(product: Product): ProductMessage {
  return {
    id: product.id,
    name: product.name,
    description: product.description,
    status: Status[product.status],
    priceFen: product.priceFen,
    specId: product.spec.id,
    spec: specReply(product.spec),
    imageUrl: product.imageUrl,
    sellerId: product.sellerId ?? '',
    version: product.version,
    createdAt: product.createdAt,
    updatedAt: product.updatedAt,
  };
}
