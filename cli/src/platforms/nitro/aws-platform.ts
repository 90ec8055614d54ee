import { notYet } from '../not-yet.ts';
import type { Platform } from '../platform.ts';

const later = (): never => {
  throw notYet('Platform nitro on AWS');
};

export const awsPlatform: Platform = {
  check: async () => later(),
  find: async () => undefined,
  deploy: async () => later(),
  silentUrls: async () => [],
  report: async () => later(),
  logs: async () => later(),
  stop: async () => later(),
  start: async () => later(),
  remove: async () => later(),
  list: async () => [],
};
