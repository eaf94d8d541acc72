//! A reader of protobuf's wire format that walks a message in place: nothing is copied, unknown fields cost a step.
//!
//! It reads what Kubernetes writes (varints, fixed numbers, length-delimited fields); a group, which no Kubernetes
//! message has, is broken to it, like any length beyond the end.

/// The bytes are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// One field's content.
#[derive(Clone, Copy)]
pub enum Field<'a> {
    /// A varint: numbers, booleans, enums.
    Number(u64),
    /// A string, bytes, or a message within.
    Bytes(&'a [u8]),
    /// A fixed-size number, which nothing here needs.
    Fixed,
}

impl<'a> Field<'a> {
    /// The bytes of a length-delimited field.
    pub fn bytes(self) -> Result<&'a [u8], Broken> {
        match self {
            Field::Bytes(bytes) => Ok(bytes),
            _ => Err(Broken),
        }
    }

    /// The text of a string field. What is no UTF-8 is replaced, as nothing else in Kubernetes refuses it.
    pub fn text(self) -> Result<String, Broken> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    /// The number of a varint field.
    pub fn number(self) -> Result<u64, Broken> {
        match self {
            Field::Number(number) => Ok(number),
            _ => Err(Broken),
        }
    }
}

/// The fields of a message in the order they were written, each with its tag. Ends after the first [`Broken`].
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// See [`fields`].
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(Broken))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u32, Field<'a>)> {
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).ok().filter(|tag| *tag != 0)?;
        let field = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return None,
        };
        Some((tag, field))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_kind_of_field_it_may_meet() {
        let message = [8, 0x96, 1, 0x12, 2, b'h', b'i', 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 1, 2, 3, 4];
        let mut fields = fields(&message);
        assert!(matches!(fields.next(), Some(Ok((1, Field::Number(150))))));
        assert!(matches!(fields.next(), Some(Ok((2, Field::Bytes(b"hi"))))));
        assert!(matches!(fields.next(), Some(Ok((3, Field::Fixed)))));
        assert!(matches!(fields.next(), Some(Ok((4, Field::Fixed)))));
        assert!(fields.next().is_none());
    }

    #[test]
    fn a_broken_message_ends_the_walk() {
        let long = [0xff; 11];
        for message in
            [&[8][..], &[0, 1], &[0x12, 5, b'x'], &[0x0b, 0x0c], &long, &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]]
        {
            let mut fields = fields(message);
            assert!(matches!(fields.next(), Some(Err(Broken))), "{message:?}");
            assert!(fields.next().is_none());
        }
    }
}
