/** A stack whose projects are virtual machines of our image, which its contract allows. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { addOsImageHash } from '@dstack-cloud/contracts';
import { VM_DOMAIN } from '@dstack-cloud/scripts/demo/kms';
import { type Stack, startStack } from '../stack.ts';
import { type CommandLine, commandLine } from './command-line.ts';

export interface VmStack {
  readonly stack: Stack;
  readonly cli: CommandLine;
  /** Folder of the OS images; `first` is the one that is allowed. */
  readonly images: string;
  /** Its hash. */
  readonly digest: string;
}

/** @param image folder of a built image */
export async function startVmStack(image: string): Promise<VmStack> {
  const stack = await startStack(undefined, { domain: VM_DOMAIN });
  try {
    const images = join(stack.space.directory, 'images');
    mkdirSync(images);
    symlinkSync(image, join(images, 'first'));
    const digest = readFileSync(join(image, 'digest.txt'), 'utf8').trim();
    await addOsImageHash(stack.contracts.client, stack.contracts.kms, `0x${digest}`);
    const config = JSON.parse(readFileSync(stack.config, 'utf8')) as Record<string, object>;
    config['image_search_paths'] = [images];
    config['local'] = { ...config['local'], driver: 'vm' };
    writeFileSync(stack.config, JSON.stringify(config));
    return { stack, cli: commandLine(stack.config), images, digest };
  } catch (error) {
    await stack.stop();
    throw error;
  }
}
