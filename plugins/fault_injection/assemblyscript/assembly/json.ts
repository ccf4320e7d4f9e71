// assemblyscript-json reads more than JSON, less than JSON (no "\f"), and aborts the whole VM where
// it meets an error. So the text is checked first, and handed over in the words that it knows.
import { JSON } from "assemblyscript-json/assembly";

const DEEPEST = 127;

/** The value, or null when the text is not JSON. */
export function parse(bytes: ArrayBuffer): JSON.Value | null {
  const text = String.UTF8.decode(bytes);
  // What is not UTF-8 does not survive the way there and back.
  const again = String.UTF8.encode(text);
  if (again.byteLength != bytes.byteLength || memory.compare(changetype<usize>(again), changetype<usize>(bytes), bytes.byteLength) != 0) {
    return null;
  }
  const checker = new Checker(text);
  if (!checker.whole()) {
    return null;
  }
  return JSON.parse(checker.rewritten());
}

class Checker {
  private at: i32 = 0;
  private parts: string[] = [];
  private copied: i32 = 0;

  constructor(private text: string) {}

  whole(): bool {
    return this.value(0) && this.at == this.text.length;
  }

  rewritten(): string {
    return this.parts.join("") + this.text.substring(this.copied);
  }

  private replace(start: i32, replacement: string): void {
    this.parts.push(this.text.substring(this.copied, start));
    this.parts.push(replacement);
    this.copied = this.at;
  }

  private peek(): i32 {
    return this.at < this.text.length ? this.text.charCodeAt(this.at) : -1;
  }

  private take(expected: string): bool {
    if (!this.text.startsWith(expected, this.at)) {
      return false;
    }
    this.at += expected.length;
    return true;
  }

  private space(): void {
    while (this.take(" ") || this.take("\t") || this.take("\n") || this.take("\r")) {}
  }

  private value(depth: i32): bool {
    this.space();
    let good: bool;
    if (this.take("{")) {
      good = depth < DEEPEST && this.members(true, "}", depth);
    } else if (this.take("[")) {
      good = depth < DEEPEST && this.members(false, "]", depth);
    } else if (this.take('"')) {
      good = this.string();
    } else {
      good = this.take("true") || this.take("false") || this.take("null") || this.number();
    }
    this.space();
    return good;
  }

  private members(keyed: bool, close: string, depth: i32): bool {
    this.space();
    if (this.take(close)) {
      return true;
    }
    do {
      if (keyed && !this.key()) {
        return false;
      }
      if (!this.value(depth + 1)) {
        return false;
      }
    } while (this.take(","));
    return this.take(close);
  }

  private key(): bool {
    this.space();
    if (!this.take('"') || !this.string()) {
      return false;
    }
    this.space();
    return this.take(":");
  }

  private string(): bool {
    let high = false; // the last character was the first half of a surrogate pair
    while (true) {
      const start = this.at;
      let unit = this.peek();
      this.at++;
      if (unit < 0x20) {
        return false; // a control character, or the end
      }
      if (unit == 0x22) {
        return !high;
      }
      if (unit == 0x5c) {
        unit = this.escape();
        if (unit < 0) {
          return false;
        }
        if (unit == 0x0c) {
          this.replace(start, "\\u000c");
        }
      }
      if (high != (unit >= 0xdc00 && unit <= 0xdfff)) {
        return false;
      }
      high = unit >= 0xd800 && unit <= 0xdbff;
    }
  }

  /** What stands after a backslash, or -1. */
  private escape(): i32 {
    if (this.take("u")) {
      let unit = 0;
      for (let i = 0; i < 4; i++) {
        const digit = "0123456789abcdef".indexOf(this.text.charAt(this.at++).toLowerCase());
        if (digit < 0 || this.at > this.text.length) {
          return -1;
        }
        unit = (unit << 4) | digit;
      }
      return unit;
    }
    const found = this.at < this.text.length ? '"\\/bfnrt'.indexOf(this.text.charAt(this.at++)) : -1;
    return found < 0 ? -1 : '"\\/\b\f\n\r\t'.charCodeAt(found);
  }

  private digits(): i32 {
    const start = this.at;
    while (this.peek() >= 0x30 && this.peek() <= 0x39) {
      this.at++;
    }
    return this.at - start;
  }

  private number(): bool {
    const start = this.at;
    this.take("-");
    if (!this.take("0") && this.digits() == 0) {
      return false;
    }
    let whole = true;
    if (this.take(".")) {
      whole = false;
      if (this.digits() == 0) {
        return false;
      }
    }
    if (this.take("e") || this.take("E")) {
      whole = false;
      if (!this.take("+")) {
        this.take("-");
      }
      if (this.digits() == 0) {
        return false;
      }
    }
    if (whole && this.at - start > 15) {
      // Too long for its integers: 18446744073709551816 must not become 200.
      this.replace(start, this.text.substring(start, this.at) + ".0");
    }
    return true;
  }
}
