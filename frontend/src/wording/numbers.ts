const day = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });
const moment = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
const whole = new Intl.NumberFormat("en");

/** "2026-11-22" as "Nov 22". */
export function shortDay(date: string): string {
  const time = Date.parse(`${date}T00:00:00Z`);
  return Number.isNaN(time) ? date : day.format(time);
}

export function longMoment(timestamp: string): string {
  const time = Date.parse(timestamp);
  return Number.isNaN(time) ? timestamp : moment.format(time);
}

export const counted = (count: number): string => whole.format(count);

export const plural = (count: number, one: string, many: string): string =>
  `${counted(count)} ${count === 1 ? one : many}`;

export const meanStars = (mean: number | null): string => (mean === null ? "none yet" : mean.toFixed(1));
