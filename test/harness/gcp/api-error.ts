/** An answer of Google's APIs that is an error, in their form. */
export class ApiError extends Error {
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }

  get body(): object {
    const { status, reason, message } = this;
    return { error: { code: status, message, errors: [{ message, domain: 'global', reason }] } };
  }
}

export function notFound(what: string): ApiError {
  return new ApiError(404, 'notFound', `The resource '${what}' was not found`);
}

export function invalid(message: string): ApiError {
  return new ApiError(400, 'invalid', message);
}
