import { AppError, type InterpolationScope, interpolate as interpolateText } from '@dstack-cloud/app';
import { GuestError } from '../errors.ts';

export type { InterpolationScope } from '@dstack-cloud/app';

/** Interpolation as everywhere, with this package's error. @throws GuestError `compose-invalid` */
export function interpolate(text: string, scope: InterpolationScope): string {
  try {
    return interpolateText(text, scope);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    throw new GuestError('compose-invalid', error.message, {
      ...(error.found === undefined ? {} : { found: error.found }),
    });
  }
}
