import type { Response } from 'express';
import type { FastifyReply } from 'fastify';
import type { Answer } from '../middleware/exchange.js';

export function sendByExpress(res: Response, { status, headers, body }: Answer): void {
  res.writeHead(status, headers);
  res.end(body);
}

export function sendByFastify(reply: FastifyReply, { status, headers, body }: Answer): void {
  reply.code(status).headers(headers).send(body);
}
