import type { Platform } from '../../platform.ts';
import { checkAws } from './check-aws.ts';
import { deployAws } from './deploy-aws.ts';
import { findAws } from './find-aws.ts';
import { awsFirewall } from './firewall-aws.ts';
import { logsAws } from './logs-aws.ts';
import { planAws } from './plan-aws.ts';
import { startAws, stopAws } from './power-aws.ts';
import { removeAws } from './remove-aws.ts';
import { listAws, reportAws } from './report-aws.ts';

/** Enclaves of AWS Nitro on a parent instance of the project's own. */
export const awsPlatform: Platform = {
  check: checkAws,
  plan: planAws,
  find: findAws,
  deploy: deployAws,
  // Ports are open only when somebody opens them.
  silentUrls: () => Promise.resolve([]),
  report: reportAws,
  logs: logsAws,
  stop: stopAws,
  start: startAws,
  remove: removeAws,
  list: listAws,
  firewall: awsFirewall,
};
